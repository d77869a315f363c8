"""The errors that cross a room's border. Each says in one line what is wrong."""


class DrawbridgeError(Exception):
    """The root: everything that Drawbridge itself raises for a caller to handle."""


class ConfigError(DrawbridgeError):
    """A setting is unknown or has a bad value; the start is refused with exit status 2."""


class StoreUnavailable(DrawbridgeError):
    """A store cannot be used right now. ``dependency`` is ``redis``, ``database`` or ``neo4j``."""

    def __init__(self, dependency: str, reason: str) -> None:
        super().__init__(f"{dependency} is unavailable: {reason}")
        self.dependency = dependency
        self.reason = reason


class BridgeUp(DrawbridgeError):
    """Maintenance is on: nothing is accepted or claimed."""


class ControlStateStale(DrawbridgeError):
    """What the flags are is not known well enough right now to let work in."""


class InvalidInput(DrawbridgeError):
    """What the caller sent is well-formed but wrong.

    ``where`` names the field (``options.threads``) or the line (``line 12``); ``""`` for the whole.
    """

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where
