"""How publishing a command can fail."""

from control.errors import DrawbridgeError


class NobodyListens(DrawbridgeError):
    """The command was published and reached no instance."""

    def __init__(self) -> None:
        super().__init__("no instance of Drawbridge listens on this Redis: is one running?")


class CommandTimedOut(DrawbridgeError):
    """Nothing was heard of the command in time; what became of it is not known.

    Publishing the same command again is safe: it is granted once.
    """

    def __init__(self, command_id: str, timeout_s: float) -> None:
        super().__init__(
            f"no answer to command {command_id} within {timeout_s:g} s; "
            "it may still be carried out, look at the flags before you repeat it"
        )
        self.command_id = command_id
