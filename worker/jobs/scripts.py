"""The Lua scripts of the job engine: loaded once, each under its own name."""

from collections.abc import Mapping, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from control import keys
from control.stores.redis import guard

Argument = str | bytes | int | float

# Scripts that free memory or keep leases alive must run even when Redis is full.
_ALLOWED_WHEN_FULL = ("cancel", "finish", "heartbeat", "leave", "requeue", "rescue")


class Scripts:
    """Calls the scripts on one client. Raises :class:`control.errors.StoreUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Any = redis
        self._texts = _texts()
        self._digests = {
            name: sha1(text.encode()).hexdigest()  # noqa: S324 - Redis names scripts so
            for name, text in self._texts.items()
        }

    async def __call__(self, name: str, arguments: Sequence[Argument]) -> Any:
        """Run the script ``name`` on the job engine's keys; what it answers is said in its file."""
        with guard():
            try:
                return await self._redis.execute_command(
                    "EVALSHA", self._digests[name], 1, keys.JOBS, *arguments
                )
            except NoScriptError:  # a restart or a SCRIPT FLUSH: EVAL loads it again
                return await self._redis.execute_command(
                    "EVAL", self._texts[name], 1, keys.JOBS, *arguments
                )


def _texts() -> Mapping[str, str]:
    folder = files(__package__).joinpath("lua")
    found = {item.name.removesuffix(".lua"): item.read_text() for item in folder.iterdir()}
    shared = found.pop("records")
    return {
        name: f"#!lua{' flags=allow-oom' if name in _ALLOWED_WHEN_FULL else ''}\n{shared}\n{text}"
        for name, text in found.items()
    }
