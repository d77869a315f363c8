"""A Lua script on Redis: sent by its digest, loaded again where Redis has forgotten it."""

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from control.stores.redis import guard

Argument = str | bytes | int | float


class Script:
    """One script on one client. Calls raise :class:`control.errors.StoreUnavailable`."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._redis: Any = redis
        self._text = text
        self._digest = sha1(text.encode()).hexdigest()  # noqa: S324 - Redis names scripts so

    async def __call__(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it; what it answers is said in its file."""
        given = (len(keys), *keys, *arguments)
        with guard():
            try:
                return await self._redis.execute_command("EVALSHA", self._digest, *given)
            except NoScriptError:  # a restart or a SCRIPT FLUSH: EVAL loads it again
                return await self._redis.execute_command("EVAL", self._text, *given)
