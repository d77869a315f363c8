"""Jobs: their state and their running.

For modules of your own kinds: ``from worker import JobContext, job, resource``; for their tests
:func:`worker.testing.run_kind`; for code that moves jobs itself ``JobStateManager``.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.context import JobContext
    from worker.jobs.kinds import job
    from worker.jobs.manager import JobStateManager
    from worker.resources import resource

__all__ = ["JobContext", "JobStateManager", "job", "resource"]

_HOME = {
    "JobContext": "worker.context",
    "JobStateManager": "worker.jobs.manager",
    "job": "worker.jobs.kinds",
    "resource": "worker.resources",
}


def __getattr__(name: str) -> Any:
    """What is public, imported when asked for: it would slow down each job process's start."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see above

    return getattr(import_module(_HOME[name]), name)
