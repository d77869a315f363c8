"""Signals whose effect is there when the call returns."""

import os
import signal
import time
from pathlib import Path

STANDS_S = 10.0
STANDING = {"T", "t", "Z", "X"}
"""States of a thread that does nothing any more: stopped, traced, dead."""


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process. Of SIGSTOP, wait until all its threads stand: the kernel stops
    each of them when it comes by, and one that runs on another core answers a little longer."""
    os.kill(pid, number)
    if number != signal.SIGSTOP:
        return
    deadline = time.monotonic() + STANDS_S
    while not _states(pid) <= STANDING:
        assert time.monotonic() < deadline, f"process {pid} did not stop: {_states(pid)}"
        time.sleep(0.0005)


def _states(pid: int) -> set[str]:
    """What the threads of a process are doing; nothing where it has ended."""
    states = set()
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            told = (thread / "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        states.add(told.rpartition(")")[2].split()[0])
    return states
