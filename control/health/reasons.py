"""An exception as a word or two that may be shown to anybody: its class, never its text."""

import re
import socket

from control.errors import StoreUnavailable
from control.health.check import CannotTell, Down

_SPELLED: dict[str, str] = {
    "AuthError": "AuthenticationFailed",
    "AuthenticationError": "AuthenticationFailed",
    "InvalidAuthorizationSpecificationError": "AuthenticationFailed",
    "InvalidPasswordError": "AuthenticationFailed",
    "FileNotFoundError": "SocketNotFound",
    "ConnectionError": "ConnectionLost",
    "CannotConnectNowError": "StartingOrStopping",
    "BusyLoadingError": "LoadingItsData",
    "InvalidCatalogNameError": "DatabaseNotFound",
    "ConnectionAcquisitionTimeoutError": "Timeout",
    "BlockingIOError": "NotAccepting",
}
"""Classes of our drivers whose name misleads, or differs from driver to driver."""


def reason(error: BaseException) -> str:
    """``ConnectionRefused``, ``AuthenticationFailed``, ``Timeout``: what failed, without details.

    Drivers wrap the operating system's errors; the wrapped one says more and is preferred.
    """
    if isinstance(error, StoreUnavailable):
        return error.reason
    if isinstance(error, Down | CannotTell):
        return error.shown_as
    told: BaseException | None = error
    seen: set[int] = set()
    while told is not None and id(told) not in seen:
        seen.add(id(told))
        if isinstance(told, socket.gaierror):
            return "NameNotResolved"
        if isinstance(told, OSError) and type(told) is not OSError:
            return _word(told)
        told = told.__cause__ or told.__context__
    return _word(error)


def _word(error: BaseException) -> str:
    name = type(error).__name__
    return _SPELLED.get(name) or re.sub(r"(Error|Exception)$", "", name) or name
