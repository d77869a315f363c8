"""The Lua scripts of the job engine: loaded once, each under its own name."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis

from control import keys
from control.stores.scripts import Argument, Script

# Scripts that free memory or keep leases alive must run even when Redis is full.
_ALLOWED_WHEN_FULL = ("cancel", "finish", "heartbeat", "leave", "requeue", "rescue")


class Scripts:
    """Calls the scripts on one client. Raises :class:`control.errors.StoreUnavailable`."""

    def __init__(self, redis: Redis) -> None:
        self._scripts = {name: Script(redis, text) for name, text in _texts().items()}

    async def __call__(self, name: str, arguments: Sequence[Argument]) -> Any:
        """Run the script ``name`` on the job engine's keys; what it answers is said in its file."""
        return await self._scripts[name]([keys.JOBS], arguments)


def _texts() -> Mapping[str, str]:
    folder = files(__package__).joinpath("lua")
    found = {item.name.removesuffix(".lua"): item.read_text() for item in folder.iterdir()}
    shared = found.pop("records")
    return {
        name: f"#!lua{' flags=allow-oom' if name in _ALLOWED_WHEN_FULL else ''}\n{shared}\n{text}"
        for name, text in found.items()
    }
