"""A service that takes in networks, and what a test asks of it."""

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
from redis.asyncio import Redis

from control.config import Config
from control.flags.document import INGESTION
from control.stores.graph import Graph
from control.stores.postgres import Database
from tests.conftest import LiveStores, open_gate
from tests.networks import emptied
from tests.processes import Replica, replica
from tests.serving import Served, served, with_database
from tests.stack import SO_S, wait_until


class House:
    """A service, on a database and an emptied graph of its own."""

    def __init__(
        self, api: Served, config: Config, graph: Graph, environment: dict[str, str]
    ) -> None:
        self._environment = environment
        self.api = api
        self.config = config
        self.graph = graph

    async def ingest(self, body: Any, headers: dict[str, str] | None = None, **query: str) -> Any:
        """The receipt of an upload."""
        async with self.api.http.post(
            "/ingest", data=body, headers=headers, params=query
        ) as response:
            assert response.status == 202, await response.text()
            return await response.json()

    async def ended(self, receipt: dict[str, Any]) -> dict[str, Any]:
        """The record of a job that has ended."""

        async def over() -> Any:
            record = await self.get(receipt["links"]["status"])
            return record if record["status"] in ("completed", "failed", "cancelled") else None

        record: dict[str, Any] = await wait_until(over)
        return record

    async def result(self, receipt: dict[str, Any]) -> dict[str, Any]:
        """What the job returned, once it has completed."""
        record = await self.ended(receipt)
        assert record["status"] == "completed", record
        return await self.get(receipt["links"]["result"])

    async def get(self, path: str) -> dict[str, Any]:
        async with self.api.http.get(path) as response:
            assert response.status == 200, await response.text()
            found: dict[str, Any] = await response.json()
            return found

    def worker(self, **settings: str) -> AbstractAsyncContextManager[Replica]:
        """A worker of this house."""
        settings = {"DRAWBRIDGE_LOG_LEVEL": "debug", "DRAWBRIDGE_LEASE_S": "2", **settings}
        return replica("worker", self._environment, **settings)

    async def progressed(self, receipt: dict[str, Any], edges: int) -> None:
        """Wait until so many edges are written, by what the job tells."""

        async def so() -> bool:
            progress = (await self.get(receipt["links"]["status"]))["progress"] or {}
            return bool(progress.get("edges", 0) >= edges)

        await wait_until(so)

    async def flag(self) -> bool:
        """Whether the ingestion flag is on, by the truth."""
        return (await self.api.plane.ledger.read()).is_active(INGESTION)

    async def flag_changes(self) -> list[bool]:
        """What the ingestion flag was turned to, in order."""
        async with Database(self.config.postgres) as database:
            rows = await database.fetch(
                "SELECT after FROM drawbridge.audit WHERE flag = $1 AND outcome = 'applied' "
                "ORDER BY seq",
                INGESTION,
            )
        return [json.loads(row["after"])["is_active"] for row in rows]


@asynccontextmanager
async def house_of(stores: LiveStores, **service: Any) -> AsyncIterator[House]:
    """A house for the block; ``service`` changes its section of the configuration."""
    name = f"test_{uuid4().hex[:12]}"
    config = await with_database(stores.config, await stores.make_database(name))
    async with Redis.from_url(stores.addresses.redis_url, socket_timeout=SO_S) as redis:
        await redis.flushall()
        await open_gate(redis)
    environment = {**stores.environment, "DATABASE_URL": config.postgres.url}
    async with Graph(config.graph) as graph, served(config, **service) as api:
        await emptied(graph)
        yield House(api, config, graph, environment)
        await emptied(graph)  # a little at a time, which whoever comes next would not
    await stores.drop_database(name)


def form(nodes: str | bytes, edges: str | bytes, *, gz: bool = False) -> aiohttp.FormData:
    made = aiohttp.FormData()
    for field, text in (("nodes", nodes), ("edges", edges)):
        data = text.encode() if isinstance(text, str) else text
        file_name = f"{field}.csv.gz" if gz else f"{field}.csv"
        made.add_field(field, gzip.compress(data) if gz else data, filename=file_name)
    return made
