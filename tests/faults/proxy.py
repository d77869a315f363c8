"""A real link that a test can spoil: a TCP proxy between an instance and one of its stores.

It runs in the test's own loop and listens on a loopback port; the store behind it may be a unix
socket. Whatever is done to it holds for the links that are open and for those that come.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from control import cancelling
from tests.stack import SO_S

CHUNK = 1 << 16
Address = str | tuple[str, int]
"""Path of a unix socket, or host and port."""


class Way(Enum):
    """Which way bytes go."""

    UP = "to the store"
    DOWN = "to the instance"


BOTH = (Way.UP, Way.DOWN)


class Trap:
    """Waits for some bytes; every link of a proxy that carries them is held until :meth:`let_go`.

    Nothing is caught any more after that.
    """

    def __init__(self, pattern: bytes, way: Way, *, before: bool) -> None:
        self.pattern = pattern
        self.way = way
        self.before = before
        """Whether the bytes themselves are held too."""
        self.seen = b""
        """What was caught, and a little of what came before it."""
        self.sprung = asyncio.Event()
        self.released = asyncio.Event()

    def let_go(self) -> None:
        """Carry what was held, in its order, and all that follows; catch no more."""
        self.released.set()

    async def caught(self, deadline_s: float = SO_S) -> None:
        """Wait until a link is held. Raises :class:`AssertionError` after the deadline."""
        try:
            await asyncio.wait_for(self.sprung.wait(), deadline_s)
        except TimeoutError:
            raise AssertionError(f"nothing sent {self.pattern!r} within {deadline_s} s") from None


class Proxy:
    """``async with proxy_to(address) as proxy``: carries everything, until it is told otherwise."""

    def __init__(self, target: Address) -> None:
        self.target = target
        """Where links that are opened from now on lead."""
        self.port = 0
        self.carried = dict.fromkeys(BOTH, 0)
        """Bytes, each way."""
        self._links: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._traps: list[Trap] = []
        self._silent: tuple[Way, ...] = ()
        self._delay_s = 0.0
        self._piece = CHUNK
        self._passing = {way: asyncio.Event() for way in BOTH}
        self._refusing = False
        self._server: asyncio.Server | None = None
        self.heal()

    @property
    def links(self) -> int:
        """How many are open."""
        return len(self._links)

    def cut(self) -> None:
        """Close every link and refuse new ones, until :meth:`heal`."""
        self._refusing = True
        self.kill()

    def kill(self) -> None:
        """Close every link; new ones are welcome."""
        for link, ends in self._links.items():
            for end in ends:
                end.transport.abort()
            link.cancel()

    def swallow(self, *ways: Way) -> None:
        """Keep links open and lose what is sent that way (both, if none is named).

        A link that lost bytes stays mute for ever, as one does whose other end has forgotten it.
        """
        self._silent = ways or BOTH

    def hold(self, *ways: Way) -> None:
        """Carry nothing that way (both, if none is named), but lose nothing either."""
        for way in ways or BOTH:
            self._passing[way].clear()

    def slow(self, delay_s: float, piece: int = CHUNK) -> None:
        """Carry at most ``piece`` bytes at once, and pause ``delay_s`` before each."""
        self._delay_s, self._piece = delay_s, piece

    def heal(self) -> None:
        """Carry everything again and go on with what was held."""
        self._refusing, self._silent = False, ()
        self._delay_s, self._piece = 0.0, CHUNK
        for passing in self._passing.values():
            passing.set()
        for trap in self._traps:
            trap.let_go()
        self._traps.clear()

    def hold_after(self, pattern: bytes, way: Way = Way.DOWN) -> Trap:
        """Hold each link that carries ``pattern`` that way, once it has carried it."""
        return self._set(Trap(pattern, way, before=False))

    def hold_at(self, pattern: bytes, way: Way = Way.UP) -> Trap:
        """Hold each link that is to carry ``pattern`` that way, and the pattern with it."""
        return self._set(Trap(pattern, way, before=True))

    def _set(self, trap: Trap) -> Trap:
        self._traps.append(trap)
        return trap

    async def open(self) -> None:
        """Listen; :attr:`port` is known then."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Close all links and the listener."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._links, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        ends = self._links[link] = [writer]
        try:
            if not self._refusing:
                await self._connected(reader, writer, ends)
        except (OSError, asyncio.CancelledError):
            pass  # the end of this side tells the other all there is to know
        finally:
            del self._links[link]
            for end in ends:
                end.transport.abort()

    async def _connected(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ends: list[asyncio.StreamWriter],
    ) -> None:
        """One link's life. The end of either side is the end of both."""
        if isinstance(self.target, str):
            from_store, to_store = await asyncio.open_unix_connection(self.target, limit=CHUNK)
        else:
            from_store, to_store = await asyncio.open_connection(*self.target, limit=CHUNK)
        ends.append(to_store)
        pumps = [
            asyncio.create_task(self._pump(reader, to_store, Way.UP)),
            asyncio.create_task(self._pump(from_store, writer, Way.DOWN)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancelling.end(*pumps)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way
    ) -> None:
        tail, mute = b"", False
        while chunk := await reader.read(self._piece):
            if mute := mute or way in self._silent:
                continue
            held = self._springs(tail + chunk, way)
            tail = chunk[-64:]
            if held and held.before:
                await held.released.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)  # the slowness itself
            await self._passing[way].wait()
            writer.write(chunk)
            await writer.drain()
            self.carried[way] += len(chunk)
            if held and not held.before:
                await held.released.wait()

    def _springs(self, seen: bytes, way: Way) -> Trap | None:
        for trap in self._traps:
            if not trap.released.is_set() and trap.way is way and trap.pattern in seen:
                trap.seen = trap.seen or seen
                trap.sprung.set()
                return trap
        return None


@asynccontextmanager
async def proxy_to(target: Address) -> AsyncIterator[Proxy]:
    """A proxy that listens, closed at the end."""
    proxy = Proxy(target)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
