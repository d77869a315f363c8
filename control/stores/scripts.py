"""A Lua script on Redis: sent by its digest, loaded again where Redis has forgotten it."""

from collections.abc import Sequence
from functools import partial
from hashlib import sha1
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from control.stores.line import Argument
from control.stores.redis import guard
from control.stores.servers import Spread
from control.stores.wire import Wire


class Script:
    """One script on one client, on a wire that is shared, or wherever its first key lies. Calls
    raise :class:`control.errors.StoreUnavailable`."""

    def __init__(self, redis: Redis | Wire | Spread, text: str) -> None:
        self._spread = redis if isinstance(redis, Spread) else None
        self._send: Any = redis if isinstance(redis, (Wire, Spread)) else redis.execute_command
        self._text = text
        self._digest = sha1(text.encode()).hexdigest()  # noqa: S324 - Redis names scripts so

    async def __call__(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it; what it answers is said in its file."""
        given = (len(keys), *keys, *arguments)
        send = partial(self._spread.send, keys[0]) if self._spread else self._send
        with guard():
            try:
                return await send("EVALSHA", self._digest, *given)
            except ResponseError as error:
                if not (isinstance(error, NoScriptError) or str(error).startswith("NOSCRIPT")):
                    raise
                # A restart or a SCRIPT FLUSH: EVAL loads it again.
                return await send("EVAL", self._text, *given)
