"""Where the wheels of the embedded servers are installed."""

from importlib.util import find_spec
from pathlib import Path

from control.errors import DrawbridgeError


class MissingWheel(DrawbridgeError):
    """An embedded server is not installed. Says what to do."""

    def __init__(self, server: str, variable: str) -> None:
        super().__init__(
            f"the embedded {server} is not installed: run pip install 'drawbridge[embedded]', "
            f"or set {variable} to use a server of your own"
        )


def installed(*packages: str) -> Path | None:
    """The folder of the first of ``packages`` that is installed; nothing is imported."""
    for package in packages:
        try:
            spec = find_spec(package)
        except ImportError:
            continue
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations)))
    return None
