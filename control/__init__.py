"""What several processes must agree on, and what operators steer.

For scripts: ``from control import Bridge`` (see :mod:`control.bridge`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from control.bridge import Bridge, Debounced, Refused, TimedOut

__all__ = ["Bridge", "Debounced", "Refused", "TimedOut", "__version__"]


def __getattr__(name: str) -> Any:
    """What is public, imported when asked for: it would slow down each job process's start."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        return _version()
    from importlib import import_module  # noqa: PLC0415 - see above

    return getattr(import_module("control.bridge"), name)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - takes 13 ms

    try:
        return version("drawbridge")
    except PackageNotFoundError:  # a bare checkout that was never installed
        return "0.0.0+unknown"
