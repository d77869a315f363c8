"""Settings of the status page; sections of :mod:`control.config`."""

from dataclasses import dataclass

from control.settings import setting, url


@dataclass(frozen=True)
class StatusPageSection:
    """The public page."""

    title: str = setting("DRAWBRIDGE_STATUS_TITLE", "Drawbridge", "whose status page it is")
    url: str = setting(
        "DRAWBRIDGE_STATUS_URL",
        "",
        "where the public finds the status page, such as https://status.example.org",
        url("https", "http"),
    )
