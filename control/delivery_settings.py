"""Settings of what follows the end of a job; sections of :mod:`control.config`."""

from dataclasses import dataclass

from control.settings import networks, setting, webhook_secrets, whole


@dataclass(frozen=True)
class CallbacksSection:
    """What is posted to the callback URLs of jobs."""

    secrets: tuple[str, ...] = setting(
        "DRAWBRIDGE_CALLBACK_SECRET",
        (),
        "signs callbacks: whsec_ and base64, or several to change it; empty: there are none",
        webhook_secrets,
        secret=True,
    )
    networks: tuple[str, ...] = setting(
        "DRAWBRIDGE_CALLBACK_NETWORKS",
        (),
        "networks that callbacks may reach beside public addresses, such as 10.2.0.0/16",
        networks,
    )


@dataclass(frozen=True)
class ArchiveSection:
    """Finished jobs in PostgreSQL."""

    days: int = setting(
        "DRAWBRIDGE_ARCHIVE_DAYS",
        90,
        "days that finished jobs stay in PostgreSQL; 0: none is archived, none removed",
        whole(0, 36_500),
    )
