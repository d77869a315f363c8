"""On PYTHONPATH this lets a process write which modules it has loaded, one a line, to the file
MODULES.<its id> when it is sent SIGUSR1."""

import os
import signal
import sys
from pathlib import Path


def _write(_number: int, _frame: object) -> None:
    path = Path(f"{os.environ['MODULES']}.{os.getpid()}")
    started = path.with_suffix(".part")
    started.write_text("\n".join(sys.modules))
    started.rename(path)


signal.signal(signal.SIGUSR1, _write)
