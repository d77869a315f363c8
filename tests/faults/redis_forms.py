"""Redis as in production, of Debian's servers on loopback: with sentinels, TLS, or as a cluster."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.faults.test_roll import free_ports
from tests.stack import SO_S, wait_until

SERVER = shutil.which("redis-server")
SENTINEL = shutil.which("redis-sentinel")
MASTER = "mymaster"
DOWN_AFTER_MS = 1000
_COPIES = 3

needs_server = pytest.mark.skipif(SERVER is None, reason="redis-server is not installed")
needs_sentinel = pytest.mark.skipif(
    SERVER is None or SENTINEL is None, reason="redis-server or redis-sentinel is not installed"
)


class Node:
    """One process, from its configuration; ended by its pid."""

    def __init__(self, program: str | None, folder: Path, port: int, *lines: str) -> None:
        assert program is not None
        self.port = port
        self._program = program
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir()
        self._file = folder / "redis.conf"
        common = ("bind 127.0.0.1", f"dir {folder}", 'save ""', "logfile redis.log")
        self._file.write_text("\n".join((*common, *lines)) + "\n")

    async def start(self) -> None:
        """Start it on what its folder holds."""
        assert self._process is None
        self._process = await asyncio.create_subprocess_exec(self._program, str(self._file))

    @property
    def runs(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal and wait until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):  # it ended by itself
            process.send_signal(number)
        await process.wait()

    def client(self, **options: Any) -> Redis:
        """A client of this process and no other."""
        return Redis(port=self.port, socket_timeout=5, **options)


class Watched:
    """One master, two replicas, three sentinels."""

    def __init__(self, nodes: Mapping[int, Node], sentinels: Mapping[int, Node]) -> None:
        self.nodes = nodes
        self.sentinels = sentinels
        hosts = ",".join(f"127.0.0.1:{port}" for port in sentinels)
        self.url = f"redis+sentinel://{hosts}/{MASTER}/0"

    async def master(self) -> Node:
        """Whom most sentinels call the master."""

        async def asked() -> Node | None:
            said = [await self._ask(sentinel) for sentinel in self.sentinels.values()]
            ports = {port for port in said if port is not None and said.count(port) > 1}
            return self.nodes[ports.pop()] if ports else None

        found: Node = await wait_until(asked)
        return found

    async def new_master(self, after: Node) -> Node:
        """Wait until it is another one, and that one knows."""

        async def so() -> Node | None:
            found = await self.master()
            if found is after:
                return None
            async with found.client() as client:
                return found if (await client.info("replication"))["role"] == "master" else None

        found: Node = await wait_until(so)
        return found

    async def whole(self) -> None:
        """Wait until the master has both replicas in step, and every sentinel knows of all."""

        async def so() -> bool:
            try:
                async with (await self.master()).client() as client:
                    told = await client.info("replication")
                for sentinel in self.sentinels.values():
                    async with sentinel.client() as client:
                        seen = (await client.info("sentinel"))["master0"]
                    if (seen["slaves"], seen["sentinels"], seen["status"]) != (2, 3, "ok"):
                        return False
            except (RedisError, KeyError):
                return False
            states = [told.get(f"slave{number}", {}).get("state") for number in range(2)]
            return states == ["online", "online"]

        await wait_until(so, 2 * SO_S)

    async def _ask(self, sentinel: Node) -> int | None:
        try:
            async with sentinel.client() as client:
                found: Any = await client.sentinel_get_master_addr_by_name(MASTER)
        except RedisError:
            return None
        return int(found[1]) if found else None


@asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    """They run for the block, in step."""
    names = [f"{kind}-{number}" for kind in ("node", "sentinel") for number in range(_COPIES)]
    ports = list(free_ports(names).values())
    first = ports[0]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        servers, watchers = {}, {}
        for port in ports[:_COPIES]:
            of = () if port == first else (f"replicaof 127.0.0.1 {first}",)
            servers[port] = Node(
                SERVER, folder / str(port), port, f"port {port}", "appendonly yes",
                "repl-diskless-sync-delay 0", *of,
            )  # fmt: skip
        for port in ports[_COPIES:]:
            watchers[port] = Node(
                SENTINEL, folder / str(port), port, f"port {port}",
                f"sentinel monitor {MASTER} 127.0.0.1 {first} 2",
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {MASTER} 10000",
                f"sentinel parallel-syncs {MASTER} 2",
            )  # fmt: skip
        for node in (*servers.values(), *watchers.values()):
            stack.push_async_callback(node.end)
            await node.start()
        running = Watched(servers, watchers)
        await running.whole()
        yield running
