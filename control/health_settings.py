"""Settings of the health checks; a section of :mod:`control.config`."""

from dataclasses import dataclass

from control.settings import networks, number, services, setting, whole


@dataclass(frozen=True)
class HealthSection:
    """Health checks and their routes."""

    every_s: float = setting(
        "DRAWBRIDGE_HEALTH_EVERY_S",
        0.6,
        "seconds between two looks at each store; above 0.9 a dead one may show later than after "
        "3 s, and the stores of a large fleet have less to do; Redis is looked at every 5 s while "
        "the instance's own writes to it, one a second, succeed",
        number(0.2, 30, "seconds"),
    )
    networks: tuple[str, ...] = setting(
        "DRAWBRIDGE_HEALTH_NETWORKS",
        ("127.0.0.0/8", "::1"),
        "networks whose callers see classes of errors, latencies and details, as viewers do; "
        "requests that a proxy forwarded never count",
        networks,
    )
    external: tuple[str, ...] = setting(
        "DRAWBRIDGE_HEALTH_EXTERNAL",
        (),
        "services to look at: clerk, resend, s3, stripe, twilio, supabase=URL, name=URL or URLs",
        services,
    )
    external_every_s: float = setting(
        "DRAWBRIDGE_HEALTH_EXTERNAL_EVERY_S",
        30.0,
        "seconds between two looks at such a service, by one instance of the fleet",
        number(1, 3_600, "seconds"),
    )
    liveness_port: int = setting(
        "DRAWBRIDGE_LIVENESS_PORT",
        0,
        "port on which a thread answers /health even while the process is too busy; 0: none",
        whole(0, 65535),
    )
