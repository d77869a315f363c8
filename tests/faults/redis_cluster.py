"""A real Redis Cluster on loopback: three masters, each with a third of the slots, and replicas."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from redis.exceptions import RedisError

from control.stores.cluster import SLOTS, Cluster, View, slot_of
from deploy.embedded.redis_server import wheel_program
from tests.faults.redis_forms import Node
from tests.faults.test_roll import free_ports
from tests.stack import SO_S, wait_until

MASTERS = 3
FAIL_OVER_MS, PATIENT_MS = 2000, 30_000
"""``cluster-node-timeout``: where a replica is to take over; where there is none to."""


class Nodes:
    """The processes of one cluster, by port."""

    def __init__(self, nodes: dict[int, Node]) -> None:
        self.nodes = nodes
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in nodes)
        self.first = next(iter(nodes.values()))
        self.secure = ""
        """Their addresses by TLS."""

    async def do(self, node: Node, *command: Any) -> Any:
        """A command to one of them."""
        async with node.client() as client:
            return await client.execute_command(*command)

    async def master_of(self, key: str) -> Node:
        """Who has ``key``, by the nodes' own word."""
        _, port = await Cluster(self.url).master(slot_of(key))
        return self.nodes[port]

    async def agree(self, so: Callable[[View], bool], deadline_s: float = SO_S) -> None:
        """Wait until every node that runs finds the cluster well, all name the same masters, and
        ``so`` holds for what each says: a name is heard of later than its slots."""
        cluster = Cluster(self.url)

        async def all_do() -> bool:
            try:
                views = [
                    await cluster.ask(("127.0.0.1", port))
                    for port, node in self.nodes.items()
                    if node.runs
                ]
            except (RedisError, OSError):
                return False
            masters = {tuple((each.first, each.master) for each in view.shards) for view in views}
            return len(masters) == 1 and all(view.well and so(view) for view in views)

        await wait_until(all_do, deadline_s)

    async def keys(self) -> dict[int, list[str]]:
        """What each running master holds."""
        found = {}
        for port, node in self.nodes.items():
            async with node.client() as client:
                if (await client.info("replication"))["role"] == "master":
                    found[port] = [key.decode() async for key in client.scan_iter(count=1000)]
        return found

    async def move(self, slot: int, to: Node) -> None:
        """Have ``to`` serve ``slot``, with what is in it, as ``redis-cli --cluster`` does."""
        _, port = await Cluster(self.url).master(slot)
        source = self.nodes[port]
        ids = [(await self.do(node, "CLUSTER", "MYID")).decode() for node in (source, to)]
        await self.do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await self.do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        while keys := await self.do(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            await self.do(source, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        for node in (to, source, *self.nodes.values()):
            if node.runs and await self._is_master(node):
                await self.do(node, "CLUSTER", "SETSLOT", slot, "NODE", ids[1])

    async def _is_master(self, node: Node) -> bool:
        async with node.client() as client:
            return bool((await client.info("replication"))["role"] == "master")


@asynccontextmanager
async def clustered(
    *,
    replicas: int = 0,
    program: str | None = None,
    whole: bool = True,
    certificates: Path | None = None,
) -> AsyncIterator[Nodes]:
    """Three masters for the block, the first ``replicas`` of them with one replica each; not
    ``whole``: a slot is nobody's. With the folder of ``certificates`` they speak TLS too, and call
    each other by name."""
    count = MASTERS + replicas
    names = [f"{kind}-{number}" for kind in ("node", "bus", "tls") for number in range(count)]
    found = list(free_ports(names).values())
    ports, secure = found[: 2 * count], found[2 * count :]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        nodes = {}
        for port, bus, tls in zip(ports[:count], ports[count:], secure, strict=True):
            by_tls = _tls(certificates, tls) if certificates else ()
            nodes[port] = Node(
                program or str(wheel_program()), folder / str(port), port, f"port {port}",
                "cluster-enabled yes", f"cluster-port {bus}", "appendonly yes",
                f"cluster-node-timeout {FAIL_OVER_MS if replicas else PATIENT_MS}",
                "repl-diskless-sync-delay 0", *by_tls,
            )  # fmt: skip
            stack.push_async_callback(nodes[port].end)
            await nodes[port].start()
        running = Nodes(nodes)
        running.secure = ",".join(f"localhost:{port}" for port in secure)
        await _join(running, ports[count:], whole=whole)
        yield running


def _tls(certificates: Path, port: int) -> tuple[str, ...]:
    return (
        f"tls-port {port}", f"tls-cert-file {certificates}/server.crt",
        f"tls-key-file {certificates}/server.key", f"tls-ca-cert-file {certificates}/ca.crt",
        "tls-auth-clients no", "tls-cluster yes", "cluster-announce-hostname localhost",
        "cluster-preferred-endpoint-type hostname",
    )  # fmt: skip


async def _join(running: Nodes, buses: list[int], *, whole: bool) -> None:
    """Divide the slots, introduce the nodes to each other, and wait until all agree."""
    nodes = list(running.nodes.values())
    for node in nodes:
        await wait_until(lambda one=node: _answers(running, one))
    masters, followers = nodes[:MASTERS], nodes[MASTERS:]
    for number, node in enumerate(masters):
        first, last = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
        last -= not whole and last == SLOTS - 1
        await running.do(node, "CLUSTER", "ADDSLOTSRANGE", first, last)
    for node, bus in zip(nodes[1:], buses[1:], strict=True):
        await running.do(nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
    if not whole:
        return
    await running.agree(lambda view: len(view.shards) == MASTERS)
    for follower, master in zip(followers, masters, strict=False):
        name = await running.do(master, "CLUSTER", "MYID")
        await wait_until(lambda one=follower, of=name: _follows(running, one, of))
    await running.agree(lambda view: sum(len(s.replicas) for s in view.shards) == len(followers))


async def _answers(running: Nodes, node: Node) -> bool:
    try:
        return bool(await running.do(node, "PING"))
    except RedisError:
        return False


async def _follows(running: Nodes, node: Node, master: bytes) -> bool:
    """Have it follow, as soon as it has heard of its master; whether it has the data."""
    try:
        await running.do(node, "CLUSTER", "REPLICATE", master)
    except RedisError:
        return False
    async with node.client() as client:
        return (await client.info("replication")).get("master_link_status") == "up"
