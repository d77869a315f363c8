"""All that Redis does for a fleet, on a Cluster of three masters."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from control import keys, preflight
from control.errors import ConfigError, StoreUnavailable
from control.flags import commands
from control.flags.document import INGESTION, MAINTENANCE
from control.job_keys import JobKeys, shard_of_kind, shards
from control.migrations import migrate
from control.stores.cluster import slot_of
from control.stores.servers import Servers
from deploy.embedded.redis_server import wheel_program
from tests.conftest import LiveStores
from tests.faults.redis_cluster import MASTERS, Nodes, clustered
from tests.faults.redis_forms import Node
from tests.faults.test_roll import free_ports
from tests.processes import Replica, replica
from tests.stack import clean_environment, drawbridge, wait_for, wait_until

TOKEN = "of-the-cluster-test"
SPARE = ("one", "two", "three")
MOVED = ("four", "five", "six")
OFTEN = "seven"
"""Flags that mean nothing: each may be changed at once, where one would have to wait for itself."""

TOO_SOON = 429
TWICE = 2


@dataclass
class Fleet:
    """A service and a worker on the cluster."""

    nodes: Nodes
    service: Replica
    worker: Replica
    http: aiohttp.ClientSession
    environment: dict[str, str]
    shards: tuple[JobKeys, ...]

    async def ask(self, method: str, path: str, expected: int, **terms: Any) -> Any:
        """The JSON of an answer with this status."""
        async with self.http.request(method, path, **terms) as answer:
            assert answer.status == expected, await answer.text()
            return await answer.json(content_type=None)

    async def submit(self, kind: str, payload: Any = None, **terms: Any) -> str:
        """The run id of a new job."""
        body = {"payload": payload, **terms}
        run_id: str = (await self.ask("POST", f"/jobs/{kind}", 202, json=body))["run_id"]
        return run_id

    async def becomes(self, run_id: str, status: str = "completed") -> None:
        """Wait until a job is so."""

        async def so() -> bool:
            job = await self.ask("GET", f"/jobs/{run_id}", 200)
            return bool(job["status"] == status)

        await wait_until(so)

    async def put(self, flag: str, value: bool = True, want: str = "applied") -> int:
        """Set a flag and wait for the fleet; the status of the answer. One that comes too soon is
        told again."""
        path = f"/control/flags/{flag}?wait={want}&timeout=30"
        while True:
            async with self.http.put(path, json={"is_active": value}) as answer:
                if answer.status != TOO_SOON:
                    return answer.status
                await asyncio.sleep(float(answer.headers["Retry-After"]))

    async def status_of(self, flag: str) -> bytes | None:
        """What readers beside Drawbridge see."""
        node = await self.nodes.master_of(keys.status(flag))
        async with node.client() as client:
            return await client.get(keys.status(flag))


@pytest.fixture(scope="module")
async def nodes() -> AsyncIterator[Nodes]:
    async with clustered() as running:
        yield running


@pytest.fixture(scope="module", params=[3, pytest.param(1, marks=pytest.mark.soak)])
async def fleet(
    request: pytest.FixtureRequest, nodes: Nodes, stores: LiveStores
) -> AsyncIterator[Fleet]:
    """Of as many shards of the jobs as there are masters; or of one."""
    for port in nodes.nodes:
        await nodes.do(nodes.nodes[port], "FLUSHALL")
    database, count = "of_the_cluster", request.param
    environment = stores.environment | {
        "REDIS_URL": nodes.url,
        "DATABASE_URL": await stores.make_database(database),
        "DRAWBRIDGE_JOB_SHARDS": str(count),
        "DRAWBRIDGE_FLAGS": ",".join((*SPARE, *MOVED, OFTEN)),
        "DRAWBRIDGE_JOBS": "tests.kinds,tests.models.periodic_kinds",
        "DRAWBRIDGE_ADMIN_TOKEN": TOKEN,
        "DRAWBRIDGE_DRAIN_DELAY_S": "0",
        "DRAWBRIDGE_LEASE_S": "3",
        "DRAWBRIDGE_RATE_LIMIT": "60/m:9000",
    }
    await migrate(environment["DATABASE_URL"])
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stores.drop_database, database)
        enter = stack.enter_async_context
        service = await enter(replica("service", environment))
        worker = await enter(replica("worker", environment))
        base = (await service.logged("serving"))["url"]
        await worker.logged("phase", phase="running")
        http = await enter(
            aiohttp.ClientSession(base, headers={"Authorization": f"Bearer {TOKEN}"})
        )
        yield Fleet(nodes, service, worker, http, environment, shards(count))


async def test_the_first_commands_go_where_their_keys_are(fleet: Fleet) -> None:
    """One that goes astray ends the connection, and with it what others had sent over it."""

    async def astray() -> int:
        told = [
            await fleet.nodes.do(each, "INFO", "errorstats") for each in fleet.nodes.nodes.values()
        ]
        return sum(info.get("errorstat_MOVED", {"count": 0})["count"] for info in told)

    before = await astray()
    servers = Servers(fleet.nodes.url)
    async with aclosing(servers):
        assert servers.spread is not None
        spread, names = servers.spread, map(keys.status, (*SPARE, *MOVED))
        assert set(await asyncio.gather(*(spread.send(key, "EXISTS", key) for key in names))) <= {
            0,
            1,
        }
    assert await astray() == before


async def test_jobs_flags_and_limits_as_on_one_redis(fleet: Fleet) -> None:
    done = await fleet.submit("echo", {"x": 1})
    await fleet.becomes(done)
    result = await fleet.ask("GET", f"/jobs/{done}/result", 200)
    assert result["payload"] == {"x": 1}
    await events_of_a_job(fleet)
    running, waiting = (
        await fleet.submit("wait", {}),
        await fleet.submit("echo", run_at="2099-01-01T00:00:00Z"),
    )
    await fleet.becomes(running, "running")
    for run_id in (running, waiting):
        await fleet.ask("DELETE", f"/jobs/{run_id}", 202)
        await fleet.becomes(run_id, "cancelled")
    once = {"Idempotency-Key": "one"}
    first = await fleet.ask("POST", "/jobs/echo", 202, json={"payload": 2}, headers=once)
    again = await fleet.ask("POST", "/jobs/echo", 200, json={"payload": 2}, headers=once)
    assert first["run_id"] == again["run_id"]
    listed = await fleet.ask("GET", "/jobs?limit=100", 200)
    assert {done, running, waiting, first["run_id"]} <= {job["run_id"] for job in listed["jobs"]}
    await wait_until(lambda: ticks(fleet))
    health = await fleet.ask("GET", "/health/redis", 200)
    assert health["status"] == "healthy", health
    await the_bridge(fleet)
    await a_command_by_hand(fleet)
    held = await fleet.nodes.keys()
    assert len(held) == MASTERS
    found = [key for each in held.values() for key in each]
    assert [key for key in found if not keys.is_listed(key)] == []
    flags = [each.flags for each in fleet.shards]
    for wanted in (*flags, keys.HOME_FLAGS, keys.LEASES, keys.status_copy(MAINTENANCE)):
        assert wanted in found
    assert any(key.startswith(keys.RATES) for key in found)


async def events_of_a_job(fleet: Fleet) -> None:
    """Each change of a job that is followed is told, its end too."""
    run_id = await fleet.submit("nap", {"for_s": 0.5})
    async with fleet.http.get(f"/jobs/{run_id}/events") as stream:
        told = [line async for line in stream.content if line.startswith(b"event:")]
    assert told[-1].strip() == b"event: end"
    assert b"event: status\n" in told


async def ticks(fleet: Fleet) -> bool:
    found = await fleet.ask("GET", "/jobs?kind=tick&status=completed", 200)
    return len(found["jobs"]) >= TWICE


async def the_bridge(fleet: Fleet) -> None:
    """Raised, it keeps out whoever comes, at each place that tells of it; then it comes down."""
    assert await fleet.put(MAINTENANCE, True, "quiesced") == 200
    assert await fleet.status_of(MAINTENANCE) == b"true"
    assert await fleet.status_of(INGESTION) == b"false"
    for shard in fleet.shards:
        node = await fleet.nodes.master_of(shard.flags)
        assert await fleet.nodes.do(node, "HGET", shard.flags, MAINTENANCE) == b"1"
    await fleet.ask("POST", "/jobs/echo", 503, json={"payload": 1})
    replicas = await fleet.ask("GET", "/control/replicas", 200)
    assert {each["kind"] for each in replicas["replicas"]} == {"service", "worker"}
    await wait_until(lambda: debounced(fleet))
    assert await fleet.put(MAINTENANCE, False) == 200
    assert await fleet.status_of(MAINTENANCE) == b"false"
    await fleet.becomes(await fleet.submit("echo"))


async def debounced(fleet: Fleet) -> bool:
    """Whether the second of two changes is too soon; it is, unless the machine stands still."""
    for _ in range(2):
        async with fleet.http.post(f"/control/flags/{OFTEN}/toggle") as answer:
            status = answer.status
    return status == TOO_SOON


async def a_command_by_hand(fleet: Fleet) -> None:
    """`redis-cli PUBLISH` at whichever node is heard, and so is the command line."""
    for node, flag in zip(fleet.nodes.nodes.values(), SPARE, strict=True):
        command = commands.new("set", flag, value=True, actor="deploy")
        await fleet.nodes.do(node, "PUBLISH", keys.COMMANDS_CHANNEL, commands.encode(command))
    for flag in SPARE:
        await wait_for(partial(fleet.status_of, flag), b"true")
    status, said, errors = await drawbridge(
        "flag", "toggle", INGESTION, "--json", environ=clean_environment(**fleet.environment)
    )
    assert status == 0, errors
    assert msgspec.json.decode(said)["document"]["flags"][INGESTION]["is_active"] is True


async def test_doctor_looks_at_every_master(fleet: Fleet) -> None:
    environ = clean_environment(**(fleet.environment | {"DRAWBRIDGE_JOB_SHARDS": "2"}))
    _, said, errors = await drawbridge("doctor", "--json", environ=environ)
    found = {each["subject"]: each for each in msgspec.json.decode(said)["findings"]}
    assert found["redis cluster"]["found"] == f"{MASTERS} masters serve every slot", errors
    assert found["redis replicas"]["verdict"] == "warn"
    assert found["job shards"]["advice"] == f"set it to {len(fleet.shards)}"
    for subject in ("redis", "redis eviction", "redis persistence"):
        assert found[subject]["verdict"] == "ok", found[subject]


async def test_a_spoilt_copy_is_mended(fleet: Fleet) -> None:
    flags = [each.flags for each in fleet.shards]
    spoilt = (*flags, keys.HOME_FLAGS, keys.status_copy(INGESTION), keys.status(INGESTION))
    places = {key: await fleet.nodes.master_of(key) for key in spoilt}
    for key, node in places.items():
        await fleet.nodes.do(node, "DEL", key)
    for key, node in places.items():
        await wait_for(partial(fleet.nodes.do, node, "EXISTS", key), 1)
    said = await fleet.status_of(INGESTION)
    await fleet.nodes.do(node, "SET", keys.status(INGESTION), "maybe")
    await wait_for(partial(fleet.status_of, INGESTION), said)


async def test_a_slot_that_moves_is_followed(fleet: Fleet) -> None:
    waiting = await fleet.submit("wait", {})
    await fleet.becomes(waiting, "running")
    its = fleet.shards[shard_of_kind("wait", len(fleet.shards))]
    channels = (its.cancel_channel, keys.COMMANDS_CHANNEL, "")
    for key, channel, flag in zip(
        (its.prefix, keys.CONTROL, keys.status(MOVED[2])), channels, MOVED, strict=True
    ):
        old = await fleet.nodes.master_of(key)
        new = next(node for node in fleet.nodes.nodes.values() if node is not old)
        await fleet.nodes.move(slot_of(key), new)
        assert await fleet.nodes.master_of(key) is new
        if channel:  # who listens does so where is published now, and nowhere else
            await wait_until(partial(hears, fleet, new, channel))
            await wait_for(partial(hears, fleet, old, channel), False)
        await wait_for(partial(fleet.put, flag), 200)
        await wait_for(partial(fleet.status_of, flag), b"true")

        async def taken() -> bool:
            async with fleet.http.post("/jobs/nap", json={"payload": {"for_s": 0}}) as answer:
                return answer.status == 202

        await wait_until(taken)

    async def cancelled() -> bool:
        async with fleet.http.delete(f"/jobs/{waiting}") as answer:
            return answer.status == 202

    await wait_until(cancelled)
    await fleet.becomes(waiting, "cancelled")
    await fleet.becomes(await fleet.submit("echo"))
    assert not [
        line
        for each in (fleet.service, fleet.worker)
        for line in each.lines
        if line.get("exc_info") or line.get("exception")
    ]


async def hears(fleet: Fleet, node: Node, channel: str) -> bool:
    """Whether somebody listens to it there."""
    _, listeners = await fleet.nodes.do(node, "PUBSUB", "NUMSUB", channel)
    return bool(listeners)


async def test_what_cannot_work_is_refused_in_a_line(
    nodes: Nodes, stores: LiveStores, tmp_path: Path
) -> None:
    first = await nodes.master_of(keys.SHARDS)
    await nodes.do(first, "SET", keys.SHARDS, 3)
    await preflight.check_redis(nodes.url, 3)
    with pytest.raises(ConfigError, match=r"JOB_SHARDS is 2, but .* divided into 3"):
        await preflight.check_redis(nodes.url, 2)
    with pytest.raises(ConfigError, match="needs a Redis Cluster"):
        await preflight.check_redis(stores.addresses.redis_url, 2)
    with pytest.raises(ConfigError, match="leads to a Redis Cluster"):
        await preflight.check_redis(f"redis://127.0.0.1:{nodes.first.port}/0")
    [port] = free_ports(["alone"]).values()
    alone = Node(str(wheel_program()), tmp_path / "alone", port, f"port {port}")
    await alone.start()
    try:
        await refused(f"redis+cluster://127.0.0.1:{port}", "is no Cluster")
    finally:
        await alone.end()
    async with clustered(whole=False) as broken:
        await refused(broken.url, "1 of 16384 slots")


async def refused(url: str, why: str) -> None:
    """Wait until the preflight ends a start with this line; before, the server is not there yet."""

    async def so() -> bool:
        try:
            await preflight.check_redis(url)
        except StoreUnavailable:
            return False
        except ConfigError as error:
            return why in str(error)
        raise AssertionError(f"taken: {url}")

    await wait_until(so)
