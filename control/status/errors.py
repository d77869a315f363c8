"""What can be wrong with a wish about incidents, windows and components."""

from control.errors import DrawbridgeError


class Unknown(DrawbridgeError):
    """There is no such incident, window, series or component."""

    def __init__(self, what: str, id_: str) -> None:
        super().__init__(f"There is no {what} {id_}.")


class Illegal(DrawbridgeError):
    """It cannot be done to something that stands as this does; ``status`` says how."""

    def __init__(self, message: str, status: str) -> None:
        super().__init__(message)
        self.status = status
