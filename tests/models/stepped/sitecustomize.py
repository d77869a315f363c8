"""On PYTHONPATH this gives a process a wrong clock: by as many seconds as the file that CLOCK_STEP
names says now. Its monotonic clock is right, as on a machine whose clock is set."""

import datetime as real
import os
import time
from pathlib import Path

from control import clock, logs

_FILE = Path(os.environ["CLOCK_STEP"])
_time, _time_ns = time.time, time.time_ns


def _step_s() -> int:
    return int(_FILE.read_text())


class _Stepped(real.datetime):
    @classmethod
    def now(cls, tz: real.tzinfo | None = None) -> real.datetime:  # type: ignore[override]
        return real.datetime.now(tz) + real.timedelta(seconds=_step_s())


time.time = lambda: _time() + _step_s()
time.time_ns = lambda: _time_ns() + _step_s() * 1_000_000_000
clock.datetime = logs.datetime = _Stepped  # type: ignore[misc]
