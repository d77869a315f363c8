"""One child process: its start in a session of its own, its log file, its end."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals

LAST_RESORT_S = 10.0
"""How long a child may take to obey the last signal before it is killed."""

_LAUNCHER = str(Path(__file__).with_name("launch.py"))


class Child:
    """A process that :func:`spawn` started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    @property
    def end(self) -> str:
        """How it ended, for people: ``exit status 1`` or ``SIGKILL``."""
        code = self._process.returncode
        if code is None:
            return "still running"
        return Signals(-code).name if code < 0 else f"exit status {code}"

    async def wait(self) -> int:
        """Its exit status once it ended; minus the number of the signal that killed it."""
        return await self._process.wait()

    def send(self, number: Signals) -> None:
        """Send it a signal, if it still runs; SIGKILL to the processes it started, too."""
        if not self.running:
            return
        with suppress(ProcessLookupError):
            (os.killpg if number is signal.SIGKILL else os.kill)(self.pid, number)

    async def stop(
        self,
        signals: Sequence[Signals],
        *,
        grace_s: float = 0.0,
        hurry: asyncio.Event | None = None,
    ) -> None:
        """End it: each signal in turn with ``grace_s`` between them, in the end SIGKILL.

        ``hurry`` cuts the grace short. One that was stopped (SIGSTOP) goes on, to end in order.
        """
        for number in signals[:-1]:
            self._ask(number)
            if await self._ended_within(grace_s, hurry):
                return
        self._ask(signals[-1])
        if not await self._ended_within(LAST_RESORT_S):
            self.send(Signals.SIGKILL)
            await self.wait()

    def _ask(self, number: Signals) -> None:
        self.send(number)
        self.send(Signals.SIGCONT)

    async def _ended_within(self, seconds: float, hurry: asyncio.Event | None = None) -> bool:
        waits = [asyncio.ensure_future(self.wait())]
        if hurry is not None:
            waits.append(asyncio.ensure_future(hurry.wait()))
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        return not self.running


async def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    fds: Sequence[int] = (),
    unprivileged: Path | None = None,
) -> Child:
    """Start ``argv`` with stdout and stderr appended to ``log`` and the sockets ``fds`` passed on.

    Call it from the main thread only: the child dies with the thread that started it.
    ``unprivileged`` is the data folder of a program that refuses to run as root.
    """
    own = str(unprivileged) if unprivileged else "-"
    launcher = (sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), own)
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *launcher,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env),
            cwd=cwd,
            pass_fds=fds,
            start_new_session=True,
        )
    return Child(process)
