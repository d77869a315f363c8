"""A fleet of real services and workers, each reached over links that a test can spoil."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import aiohttp
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from control import cancelling, ids, keys, migrations
from control.flags.document import MAINTENANCE, Document, Position
from tests.conftest import LiveStores
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.servers import OwnRedis
from tests.processes import Line, Replica, replica
from tests.stack import SO_S, wait_until

TOKEN = "of-the-fault-tests"
SPARE = tuple(f"spare_{number}" for number in range(10))
"""Flags that mean nothing, to change without raising the bridge and without being debounced."""

PING = b"*2\r\n$4\r\nPING\r\n"
"""How an instance proves its subscription; health checks send it without an argument."""

_SETTINGS = {
    "DRAWBRIDGE_ADMIN_TOKEN": TOKEN,
    "DRAWBRIDGE_FLAGS": ",".join(SPARE),
    "DRAWBRIDGE_JOBS": "tests.kinds",
    "DRAWBRIDGE_DRAIN_DELAY_S": "0",
}
_START_AT_ONCE = 4


@dataclass
class Instance:
    """One service or worker, and its links."""

    replica: Replica
    redis: Proxy
    database: Proxy
    url: str
    """Of the API, or of a worker's probes."""
    id: str

    @property
    def position(self) -> Position:
        """The newest document that it said it applied."""
        return max(self.positions, default=Position(0, 0))

    @property
    def positions(self) -> list[Position]:
        """Every document it said it applied, in that order."""
        return [Position.parse(line["position"]) for line in self.said("flags applied")]

    def said(self, event: str, **fields: Any) -> list[Line]:
        """Every line with this event and these fields."""
        wanted = {"event": event, **fields}
        return [line for line in self.replica.lines if wanted.items() <= line.items()]

    async def says(self, event: str, *, after: int = 0, deadline_s: float = SO_S, **f: Any) -> Line:
        """Wait for such a line beyond the first ``after``."""
        return await self.replica.logged(event, deadline_s, count=after + 1, **f)

    async def applies(self, position: Position, deadline_s: float = SO_S) -> None:
        """Wait until it applied this document or a newer one."""
        await self.replica.until(
            lambda: self.position >= position, deadline_s, f"flags applied at {position} or later"
        )

    def cut_off(self) -> None:
        """Take both stores away from it."""
        self.redis.cut()
        self.database.cut()

    def heal(self) -> None:
        """Put both its links right."""
        self.redis.heal()
        self.database.heal()


class Events:
    """All that was published on ``drawbridge:events``, heard beside the fleet."""

    def __init__(self, redis: Redis) -> None:
        self.heard: list[dict[str, Any]] = []
        self._redis = redis
        self._grown = asyncio.Condition()

    async def run(self) -> None:
        """Listen for ever, through every fault of Redis."""
        while True:
            with suppress(RedisError, OSError):
                async with self._redis.pubsub() as listening:
                    await listening.subscribe(keys.EVENTS_CHANNEL)
                    async for message in listening.listen():
                        if message["type"] == "message":
                            await self._take(message["data"])
            await asyncio.sleep(0.02)

    async def _take(self, data: bytes) -> None:
        with suppress(msgspec.DecodeError, RecursionError):  # some tests send rubbish
            event = msgspec.json.decode(data, type=dict[str, Any])
            async with self._grown:
                self.heard.append({**event, "heard": time.monotonic()})
                self._grown.notify_all()

    def verdicts(self, command_id: str) -> dict[str, dict[str, Any]]:
        """The answers to a command that were heard, by their verdict."""
        answers = (event for event in self.heard if event.get("command_id") == command_id)
        return {event["outcome"]["verdict"]: event for event in answers}

    async def first(self, *, after: int = 0, deadline_s: float = SO_S, **fields: Any) -> Any:
        """The first event beyond the first ``after`` that has these fields."""

        def found() -> dict[str, Any] | None:
            wanted = fields.items()
            return next((e for e in self.heard[after:] if wanted <= e.items()), None)

        try:
            async with asyncio.timeout(deadline_s), self._grown:
                await self._grown.wait_for(found)
        except TimeoutError:
            raise AssertionError(f"no such event within {deadline_s} s: {fields}") from None
        return found()


class Fleet:
    """Services and workers that share a Redis and a database, and clients that go round them."""

    def __init__(self, server: OwnRedis, database_url: str, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.redis = Redis.from_url(server.url, socket_timeout=20)
        self.database_url = database_url
        self.http = http
        self.events = Events(self.redis)
        self.services: list[Instance] = []
        self.workers: list[Instance] = []

    @property
    def all(self) -> list[Instance]:
        """Services first."""
        return [*self.services, *self.workers]

    async def publish(self, command: str, flag: str, **fields: Any) -> str:
        """Publish a command as a script does; its id."""
        sent = {"v": 1, "id": ids.new_id(), "command": command, "flag": flag, "actor": "faults"}
        sent |= fields
        await self.redis.publish(keys.COMMANDS_CHANNEL, msgspec.json.encode(sent))
        return str(sent["id"])

    async def change(self, flag: str, value: bool, **fields: Any) -> Position:
        """Set a flag by a published command, as a script does that repeats it until it is answered.

        Returns the position that the event tells. A flag that is on gets a new reason, at least.
        """
        after, command_id = len(self.events.heard), ids.new_id()
        fields = {"reason": f"because of {command_id}", **fields}
        for _ in range(20):
            await self.undebounce(flag)
            await self.publish("set", flag, value=value, id=command_id, **fields)
            with suppress(AssertionError):
                event = await self.events.first(after=after, deadline_s=1, command_id=command_id)
                # Instances remember too when a flag changed, and judge by when they heard of this.
                if event["outcome"]["verdict"] != "debounced":
                    break
                after, command_id = len(self.events.heard), ids.new_id()
        else:
            raise AssertionError(f"nobody answered the command {command_id}")
        assert event["outcome"]["verdict"] in ("applied", "unchanged"), event
        return Position(event["epoch"], event["version"])

    async def undebounce(self, *flags: str) -> None:
        """Let flags change again at once, as they may after two seconds."""
        await self.redis.delete(*(keys.debounce(flag) for flag in flags))

    async def put(
        self, flag: str, value: bool, *, service: int = 0, wait: str = "", timeout_s: float = 10
    ) -> tuple[int, Any]:
        """Set a flag over HTTP, again where it was too soon; status and body."""
        with suppress(RedisError, TimeoutError):  # it may be away or frozen
            await asyncio.wait_for(self.undebounce(flag), 1)
        query = {"wait": wait, "timeout": f"{timeout_s:g}"} if wait else {}
        url = f"{self.services[service].url}/control/flags/{flag}"
        while True:
            async with self.http.put(url, json={"is_active": value}, params=query) as response:
                if response.status != 429:
                    return response.status, await response.json(content_type=None)
            await asyncio.sleep(float(response.headers["Retry-After"]))  # as it asks clients to

    async def get(self, path: str, *, service: int = 0) -> tuple[int, Any]:
        """Status and body of a page of one service."""
        async with self.http.get(self.services[service].url + path) as response:
            return response.status, await response.json(content_type=None)

    def in_office(self) -> Instance | None:
        """The beacon: of those that live, the one that entered office last."""
        entered = [
            (line["timestamp"], number)
            for number, one in enumerate(self.all)
            for line in one.said("beacon in office")
        ]
        return self.all[max(entered)[1]] if entered else None

    def bury(self, dead: Instance) -> None:
        """Count no longer on an instance that was killed."""
        for family in (self.services, self.workers):
            if dead in family:
                family.remove(dead)

    async def document(self, service: int) -> Document:
        """The flags as one service has them in memory."""
        status, said = await self.get("/control/flags", service=service)
        assert status == 200, said
        return msgspec.convert(said, Document)

    async def freshness(self, service: int) -> dict[str, Any]:
        """How fresh that is, and where it comes from, by its own word."""
        _, said = await self.get("/control/flags", service=service)
        found: dict[str, Any] = said["freshness"]
        return found

    async def settled(self, service: int) -> None:
        """Wait until a service has proved its link to Redis anew: nothing is under way any more."""
        began = time.monotonic()

        async def proved() -> bool:
            found = await self.freshness(service)
            since_s = time.monotonic() - began
            return found["source"] == "redis" and (found["staleness_s"] or 0) < since_s

        await wait_until(proved)

    async def projected(self, redis: Redis, *, at_least: Position | None = None) -> bool:
        """Whether ``redis`` holds the newest flags that any instance knows, or ``at_least`` those.

        The document, and what the scripts of the job engine read beside it.
        """
        wanted = at_least or max(one.position for one in self.all)
        try:
            found = await redis.hgetall(keys.FLAGS)
        except RedisError:
            return False
        if b"document" not in found:
            return False
        document = msgspec.json.decode(found[b"document"], type=Document)
        up = b"1" if document.is_active(MAINTENANCE) else b"0"
        return document.position >= wanted and found[MAINTENANCE.encode()] == up

    def lead_to(self, server: OwnRedis) -> None:
        """Put another Redis in the place of the one that the instances use."""
        for one in self.all:
            one.redis.target = server.socket
            one.redis.kill()

    async def agreed(self, position: Position, deadline_s: float = SO_S) -> None:
        """Wait until every instance applied this document or a newer one."""
        await asyncio.gather(*(one.applies(position, deadline_s) for one in self.all))

    async def mend(self) -> None:
        """Heal every link, lower the bridge and wait until everybody knows."""
        await self.server.ensure()
        for one in self.all:
            one.heal()
        await self.agreed(await self.change(MAINTENANCE, False, reason="mended"))


@asynccontextmanager
async def fleet_of(
    services: int,
    workers: int,
    server: OwnRedis,
    stores: LiveStores,
    *,
    proxied: bool = True,
    **settings: str,
) -> AsyncIterator[Fleet]:
    """Start a fleet on ``server`` and a new database; ready once every instance knows the flags.

    Without ``proxied`` the instances reach their stores by themselves.
    """
    name = f"fleet_{uuid4().hex[:12]}"
    database_url = await stores.make_database(name)
    await migrations.migrate(database_url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stores.drop_database, name)
        http = await stack.enter_async_context(
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"})
        )
        fleet = Fleet(server, database_url, http)
        stack.push_async_callback(fleet.redis.aclose)
        listening = asyncio.create_task(fleet.events.run())
        stack.push_async_callback(cancelling.end, listening)
        environment = {**stores.environment, **_SETTINGS, **settings}
        few = asyncio.Semaphore(_START_AT_ONCE)

        async def start(kind: str) -> Instance:
            async with few:
                redis = await stack.enter_async_context(proxy_to(server.socket))
                database = await stack.enter_async_context(proxy_to(_postgres_socket(database_url)))
                links = {"REDIS_URL": server.url, "DATABASE_URL": database_url}
                if proxied:
                    links = _through(redis, database, database_url)
                running = await stack.enter_async_context(replica(kind, {**environment, **links}))
                return await _started(kind, running, redis, database)

        kinds = [*["service"] * services, *["worker"] * workers]
        started = await asyncio.gather(*map(start, kinds))
        fleet.services, fleet.workers = started[:services], started[services:]
        await fleet.events.first(type="beacon")
        await fleet.agreed(Position(1, 0))
        yield fleet


async def _started(kind: str, running: Replica, redis: Proxy, database: Proxy) -> Instance:
    line = await running.logged("serving" if kind == "service" else "working")
    url = line["url"] if kind == "service" else line["probes"]
    return Instance(running, redis, database, url, line["instance"])


def _through(redis: Proxy, database: Proxy, database_url: str) -> dict[str, str]:
    """The stores' addresses by way of these proxies."""
    parts = urlsplit(database_url)
    credentials = parts.netloc.rpartition("@")[0]
    return {
        "REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
        "DATABASE_URL": f"postgresql://{credentials}@127.0.0.1:{database.port}{parts.path}",
    }


def _postgres_socket(url: str) -> str:
    [folder] = parse_qs(urlsplit(url).query)["host"]
    return f"{folder}/.s.PGSQL.5432"
