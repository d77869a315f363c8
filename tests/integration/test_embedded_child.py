"""How a server that `drawbridge up` started is ended."""

import asyncio
import os
import sys
from pathlib import Path
from signal import Signals

import psutil
import pytest

from deploy.embedded import child
from tests import signals
from tests.stack import wait_until

ORDERLY = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


async def started(log: Path, how: str) -> child.Child:
    """A process that is prepared to be asked to end in this way."""
    script = f"{how}; print('ready', flush=True); import time; time.sleep(600)"
    made = await child.spawn([sys.executable, "-c", script], log=log, env=os.environ)
    await wait_until(lambda: "ready" in log.read_text())
    return made


async def test_one_that_was_stopped_goes_on_to_end_in_order(tmp_path: Path) -> None:
    one = await started(tmp_path / "log", ORDERLY)
    signals.send(one.pid, Signals.SIGSTOP)
    await one.stop((Signals.SIGTERM,))
    assert await one.wait() == 7


async def test_one_that_does_not_listen_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LAST_RESORT_S", 0.1)
    one = await started(tmp_path / "log", DEAF)
    await asyncio.wait_for(one.stop((Signals.SIGTERM,)), 30)
    assert await one.wait() == -Signals.SIGKILL
    assert not psutil.pid_exists(one.pid)
