"""Time for tests."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Time that stands still until a test moves it on."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.passed_s)

    def monotonic(self) -> float:
        return 1000.0 + self.passed_s
