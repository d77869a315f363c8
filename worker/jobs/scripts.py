"""The Lua scripts of the job engine: loaded once, each under its own name."""

import functools
from collections.abc import Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from control import keys
from control.errors import BridgeUp, ControlStateStale
from control.stores.line import Argument
from control.stores.scripts import Script
from control.stores.wire import Wire

LARGE = 256 << 10
"""Arguments larger than this go over a connection of their own, so that nothing small waits behind
them."""

_ENDING = ("cancel", "finish", "requeue", "rescue", "withdraw")
_PARTS: Mapping[str, Sequence[str] | None] = {
    "records": None,
    "making": (*_ENDING, "fire"),
    "ending": _ENDING,
    "claiming": ("accept", "claim", "withdraw"),
}
"""The files with which scripts begin, in order: which do, ``None`` for all. What a script does not
need would cost it time all the same."""

# Even when Redis is full leases must be kept alive, and what it holds must get done: that frees it.
_ALLOWED_WHEN_FULL = (
    "archived", "cancel", "claim", "ended", "finish", "forget", "heartbeat", "leave", "promote",
    "requeue", "rescue", "trim", "waiting", "withdraw",
)  # fmt: skip


class Scripts:
    """Calls the scripts on the keys that begin with ``prefix``, over ``wire``; over ``apart``,
    mostly a connection of its own, what is so large that all else would wait behind it. Raises
    :class:`control.errors.StoreUnavailable`."""

    def __init__(self, wire: Wire, apart: Redis | Wire, prefix: str = keys.JOBS) -> None:
        self._wire = wire
        self._prefix = prefix
        self._apart = apart
        # Redis names scripts so.
        self._digests = {
            name: sha1(text_of(name).encode()).hexdigest()  # noqa: S324
            for name in names()
        }

    async def __call__(
        self, name: str, arguments: Sequence[Argument], *, again: bool = True, large: bool = False
    ) -> Any:
        """Run the script ``name`` on the job engine's keys; what it answers is said in its file.

        ``again``: whether it may run twice where its first answer was lost.
        """
        if large:
            return await Script(self._apart, text_of(name))([self._prefix], arguments)
        given = (1, self._prefix, *arguments)
        try:
            return await self._wire("EVALSHA", self._digests[name], *given, again=again)
        except ResponseError as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
            # A restart or a SCRIPT FLUSH; EVAL loads it again.
            return await self._wire("EVAL", text_of(name), *given, again=again)


def passed(answer: Any) -> list[Any]:
    """What a script answered that the gate let pass. Raises :class:`BridgeUp` and
    :class:`ControlStateStale` for what the gate said otherwise."""
    if answer == b"closed":
        raise BridgeUp("maintenance is on: no job is accepted or claimed")
    if answer == b"unknown":
        raise ControlStateStale("Redis does not tell whether maintenance is on")
    answers: list[Any] = answer
    return answers


def names() -> list[str]:
    """Every script."""
    return [name for name in _files() if name not in _PARTS]


def text_of(name: str) -> str:
    """The whole of one script. Made when it is asked for: what they share is half of each."""
    flags = " flags=allow-oom" if name in _ALLOWED_WHEN_FULL else ""
    parts = [part for part, who in _PARTS.items() if who is None or name in who]
    return "\n".join((f"#!lua{flags}", *(_files()[each] for each in (*parts, name))))


@functools.cache
def _files() -> Mapping[str, str]:
    folder = files(__package__).joinpath("lua")
    return {item.name.removesuffix(".lua"): item.read_text() for item in folder.iterdir()}
