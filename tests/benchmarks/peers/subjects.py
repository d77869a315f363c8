"""Who is measured, how their workers are started, and how they are tuned."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from control import keys

ENGINES = Path(__file__).with_name("engines")
REQUIREMENTS = Path(__file__).with_name("requirements")
CHECKOUT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Subject:
    """One engine. ``worker`` is its command, of which the first word is in its environment."""

    name: str
    title: str
    module: str
    """Of :data:`ENGINES`; the driver imports it."""
    worker: tuple[str, ...]
    tuning: str
    package: str = ""
    """Whose version is shown; empty: a checkout of Drawbridge."""
    environ: Mapping[str, str] = field(default_factory=dict)
    python: Path | None = None
    """An interpreter that is there; ``None``: one is set up from the lock of that name."""
    checkout: Path | None = None
    jobs_mark: bytes = b""
    """What the commands of its worker hold that are for jobs, if it sends others too."""

    @property
    def lock(self) -> Path:
        """Everything its environment holds, with hashes."""
        return REQUIREMENTS / f"{self.name}.txt"


PEERS = (
    Subject(
        "arq", "arq", "on_arq",
        ("arq", "on_arq.WorkerSettings", "--custom-log-dict", "on_arq.LOGGING"),
        "max_jobs 500 (10), poll_delay 0.02 s (0.5), logs warnings only (each job); "
        "uvloop, hiredis; bulk: 100 calls at once",
        package="arq",
    ),
    Subject(
        "saq", "SAQ", "on_saq", ("saq", "on_saq.settings", "--quiet"),
        "concurrency 100 (10), max_concurrent_ops 100 (20), 500 connections (100), quiet; "
        "uvloop, hiredis; bulk: 500 calls at once",
        package="saq",
    ),
    Subject(
        "taskiq", "taskiq", "on_taskiq",
        ("taskiq", "worker", "on_taskiq:broker", "--workers", "1", "--max-async-tasks", "100",
         "--max-prefetch", "500", "--no-parse", "--log-level", "WARNING"),
        "stream broker with xread_count 500 (100), acknowledged when saved, 100 tasks, prefetch "
        "500 (0), no parsing, orjson (pydantic's JSON; pickle for results), results for 1 h; "
        "uvloop, hiredis; bulk: 100 calls at once",
        package="taskiq",
    ),
    Subject(
        "docket", "docket", "on_docket", ("python", str(ENGINES / "on_docket.py")),
        "concurrency 50 (10; 100 exceeds the client's own 100 connections), minimum check interval "
        "0.01 s (0.1: it sleeps so long whenever all slots are taken); uvloop, hiredis; "
        "bulk: add_many",
        package="pydocket",
    ),
    Subject(
        "dramatiq", "dramatiq", "on_dramatiq",
        ("dramatiq", "on_dramatiq", "--processes", "1", "--threads", "8"),
        "1 process (2), 8 threads (8), prefetch 512 (16), worker timeout 0.02 s (1), "
        "Results(store_results); hiredis; a plain function, as its asyncio bridge is slower; "
        "no bulk",
        package="dramatiq",
        environ={"dramatiq_queue_prefetch": "512", "dramatiq_worker_timeout": "20"},
    ),
    Subject(
        "streaq", "streaq", "on_streaq", ("streaq", "run", "on_streaq:worker"),
        "concurrency 100 (16), silent, results for 1 h; uvloop, hiredis; bulk: enqueue_many",
        package="streaq",
    ),
    Subject(
        "celery", "Celery", "on_celery",
        ("celery", "-A", "on_celery", "worker", "--pool", "solo", "--loglevel", "WARNING",
         "--without-gossip", "--without-mingle", "--without-heartbeat"),
        "solo pool (prefork), prefetch 500 (4), no gossip, mingle, heartbeat, events or rate "
        "limits, one producer kept; hiredis; a plain function, it has no async jobs; no bulk",
        package="celery",
    ),
    Subject(
        "huey", "huey", "on_huey",
        ("huey_consumer", "on_huey.huey", "--worker-type", "thread", "--workers", "1",
         "--quiet", "--no-periodic"),
        "1 thread, blocking reads, no periodic tasks, quiet; hiredis; a plain function, it has no "
        "async jobs; no bulk",
        package="huey",
    ),
)  # fmt: skip
"""The defaults of what was changed are in brackets."""


def drawbridge(checkout: Path, *, alone: bool) -> Subject:
    """The engine of a checkout, with the interpreter of its own `.venv` where it has one."""
    own = checkout / ".venv" / "bin" / "python"
    return Subject(
        f"drawbridge-{checkout.name}",
        "Drawbridge" if alone else f"Drawbridge ({checkout.name})",
        "on_drawbridge",
        ("python", "-m", "control.cli", "worker", "--port", "0"),
        "none: default settings; bulk: create_jobs",
        environ={"DRAWBRIDGE_JOBS": "on_drawbridge"},
        python=own if own.exists() else Path(sys.executable),
        checkout=checkout,
        jobs_mark=f'"{keys.JOBS}"'.encode(),  # the key that its scripts name
    )


def revision(checkout: Path) -> str:
    """The commit of a checkout, with a plus where files differ from it."""
    asked = ("git", "-C", str(checkout), "describe", "--always", "--abbrev=8", "--dirty=+")
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def environment_of(subject: Subject, python: Path, url: str, board: Path) -> dict[str, str]:
    """The variables of its processes: nothing of the user's, and no running stack's."""
    paths = [*([str(subject.checkout)] if subject.checkout else []), str(ENGINES)]
    return {
        "PATH": os.pathsep.join((str(python.parent), os.environ["PATH"])),
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "REDIS_URL": url,
        "BENCH_BOARD": str(board),
        **subject.environ,
    }
