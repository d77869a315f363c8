"""Settings of how much of a server one caller may take up; a section of :mod:`control.config`."""

from dataclasses import dataclass

from control.settings import number, rate, setting, whole

_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class EntranceSection:
    """What callers are given to say what they want, and how often they may."""

    head_s: float = setting(
        "DRAWBRIDGE_HEAD_TIMEOUT_S",
        10.0,
        "seconds for the head of a request, from its first byte or a fresh connection",
        number(0.1, 3_600, "seconds"),
    )
    body_s: float = setting(
        "DRAWBRIDGE_BODY_TIMEOUT_S",
        20.0,
        "seconds for the body of a request, and one more for every 16 KiB of it",
        number(0.1, 3_600, "seconds"),
    )
    idle_s: float = setting(
        "DRAWBRIDGE_IDLE_TIMEOUT_S",
        620.0,
        "seconds that a connection stays open between requests; longer than a proxy before it "
        "keeps one, lest it sends a request into a connection that is being closed",
        number(1, 86_400, "seconds"),
    )
    connections: int = setting(
        "DRAWBRIDGE_CONNECTIONS",
        0,
        "connections that are held at once, then the idlest is closed for the next; 0: as many as "
        "the limit on open files lets us have",
        whole(0, 1_000_000),
    )
    rate_limit: str = setting(
        "DRAWBRIDGE_RATE_LIMIT",
        "",
        "requests that each principal, or each address without a token, may make: 600/m, 10/s, or "
        "600/m:50 for at most 50 at once; empty: any number",
        rate,
    )

    @property
    def allowance(self) -> tuple[int, int, int] | None:
        """The rate limit as count, seconds, and how many at once (0: all); ``None`` without one."""
        if not self.rate_limit:
            return None
        count, _, rest = self.rate_limit.partition("/")
        unit, _, burst = rest.partition(":")
        return int(count), _SECONDS[unit], int(burst or 0)
