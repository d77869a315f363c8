"""The checks of this process itself: its control plane, its event loop, what the machine gives it.

None of them is required: a process that runs short of something still serves.
"""

import asyncio
import contextlib
import os
import resource
import tempfile
from collections.abc import Mapping

import psutil

from control.errors import ControlStateStale
from control.flags.replica import Replica
from control.health.check import WARNING, Check, Importance
from control.health.report import Memory
from control.health.watchdog import Watchdog

CONTROL_PLANE, EVENT_LOOP, RESOURCES = "control_plane", "event_loop", "resources"
FILES = "files"
OWN = "instance"
"""The tag of the checks of this process."""

_TAGS = frozenset({OWN})
SCARCE = 95.0
"""Percent of memory, disk or file descriptors in use from which on there is a warning."""

_FIRST_S = 1.8
_MEBIBYTE = 1 << 20
_MANY = 1 << 30
"""Stands for a number of files without a limit."""


def of_process(watchdog: Watchdog) -> tuple[Check, ...]:
    """The checks ``event_loop``, ``resources`` and ``files``."""
    degrading, told_only = Importance.DEGRADING, Importance.INFORMATIONAL
    return (
        Check(EVENT_LOOP, watchdog.ask, _TAGS, degrading, interval_s=2.0),
        Check(RESOURCES, _Resources().ask, _TAGS, told_only, interval_s=5.0),
        Check(FILES, _files, _TAGS, told_only, interval_s=10.0, retry_s=2.0),
    )


def of_control_plane(replica: Replica) -> Check:
    """The check ``control_plane``: whether something proves the flags fresh. At first it waits a
    little for that to be so."""

    async def ask() -> Mapping[str, object]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_S):
                await replica.proved.wait()
        if replica.stale:
            raise ControlStateStale
        age_s = replica.staleness_s or 0.0
        told: dict[str, object] = {
            "source": replica.source,
            "position": str(replica.position),
            "staleness_ms": round(age_s * 1000, 1),
        }
        if replica.source != "redis":
            told[WARNING] = "TakenFromTheDatabase"
        return told

    return Check(CONTROL_PLANE, ask, _TAGS, Importance.DEGRADING)


class FileDiffers(Exception):
    """A file that was written held something else when it was read."""


async def _files() -> Mapping[str, object]:
    """A file written and read back, where this process puts its files."""
    return await asyncio.to_thread(_write_and_read)


def _write_and_read() -> Mapping[str, object]:
    nonce = os.urandom(64)
    with tempfile.TemporaryFile() as file:
        file.write(nonce)
        file.flush()
        file.seek(0)
        if file.read() != nonce:
            raise FileDiffers
    percent = psutil.disk_usage(tempfile.gettempdir()).percent
    told: dict[str, object] = {"percent": percent}
    if percent >= SCARCE:
        told[WARNING] = "DiskScarce"
    return told


class _Resources:
    """What the machine gives this process, by psutil."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    async def ask(self) -> Mapping[str, object]:
        """Asked in a thread: the size of a disk that is a network's may be long in coming."""
        return await asyncio.to_thread(self._read)

    def _read(self) -> Mapping[str, object]:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        disk = psutil.disk_usage(os.sep)
        told: dict[str, object] = {
            "memory": Memory(memory.total - memory.available, memory.total, memory.percent),
            "swap_percent": swap.percent,
            "cpu": {
                "percent": psutil.cpu_percent(),
                "count": psutil.cpu_count(),
                "load": [round(load, 2) for load in psutil.getloadavg()],
            },
            "disk": {"free_bytes": disk.free, "total_bytes": disk.total, "percent": disk.percent},
        }
        process = told["process"] = self._of_process()
        shares = {
            "MemoryScarce": memory.percent,
            "DiskScarce": disk.percent,
            "FileDescriptorsScarce": process["fds_percent"],
        }
        if scarce := [name for name, share in shares.items() if share >= SCARCE]:
            told[WARNING] = scarce[0]
        return told

    def _of_process(self) -> dict[str, float]:
        with self._process.oneshot():
            used = self._process.memory_info().rss
            opened, most = self._process.num_fds(), _most_files()
            return {
                "memory_mb": round(used / _MEBIBYTE, 1),
                "memory_percent": round(self._process.memory_percent(), 2),
                "cpu_percent": self._process.cpu_percent(),
                "threads": self._process.num_threads(),
                "fds": opened,
                "fds_percent": round(100 * opened / most, 1),
            }


def _most_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else _MANY
