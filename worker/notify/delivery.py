"""One message to one subscriber, as carriers get it, and what they may say of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from control.errors import DrawbridgeError
from control.subscribers.links import Addresses
from control.subscribers.notice import Notice


@dataclass(frozen=True)
class Delivery:
    """``id`` is the message's own, the same at each of its attempts, of which ``attempt`` is the
    number. ``secret`` signs, where it goes to a webhook."""

    id: str
    subscriber: str
    address: str
    secret: str | None
    notice: Notice
    at: datetime
    attempt: int
    links: Addresses


class Postponed(DrawbridgeError):
    """It was not taken; another attempt may be made after ``wait_s``. ``ours``: the fault is not
    the receiver's."""

    def __init__(self, why: str, wait_s: float = 0.0, *, ours: bool = False) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        self.ours = ours


class Refused(DrawbridgeError):
    """It will not be taken, or must not be sent, however often it is tried."""


class Gone(DrawbridgeError):
    """The receiver wants nothing more, ever."""


class Carrier(Protocol):
    """Brings messages to one kind of address."""

    async def carry(self, delivery: Delivery) -> None:
        """Have it taken. Raises :class:`Postponed`, :class:`Refused` and :class:`Gone`."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...
