"""TLS with an authority of one's own and ACL users; a Redis Cluster behind a plain address."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
import pytest

from control import keys, preflight
from control.clock import SystemClock
from control.config import JobsSection
from control.errors import ConfigError, StoreUnavailable
from control.flags.document import MAINTENANCE, Document, Flag
from control.flags.projection import Projection
from control.job_keys import shards
from control.migrations import migrate
from control.stores import redis as redis_store
from control.stores.servers import Servers
from tests.certificates import Authority
from tests.conftest import LiveStores
from tests.faults.redis_cluster import clustered
from tests.faults.redis_forms import SERVER, Node, needs_server
from tests.faults.test_roll import free_ports
from tests.job_steps import new
from tests.processes import replica
from tests.stack import ROOT, wait_until
from worker.jobs.manager import JobStateManager

PASSWORD = "of-the-test-of-tls"

pytestmark = needs_server


class Secured(Node):
    """A server that speaks TLS alone, and only with who names a user."""

    authority: Path

    def url(self, user: str = "drawbridge", *, trusting: bool = True) -> str:
        """Its address, as an operator writes it."""
        query = f"?ssl_ca_certs={self.authority}" if trusting else ""
        return f"rediss://{user}:{PASSWORD}@localhost:{self.port}/0{query}"


@pytest.fixture(scope="module")
async def secured() -> AsyncIterator[Secured]:
    """With the users of deploy/redis/users.acl and no other."""
    [port] = free_ports(["tls"]).values()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        Authority.of(folder, "localhost")
        users = (ROOT / "deploy" / "redis" / "users.acl").read_text()
        (folder / "users.acl").write_text(users.replace("<password>", PASSWORD))
        server = Secured(
            SERVER, folder / "data", port, "port 0", f"tls-port {port}",
            f"tls-cert-file {folder}/server.crt", f"tls-key-file {folder}/server.key",
            f"tls-ca-cert-file {folder}/ca.crt", "tls-auth-clients no",
            f"aclfile {folder}/users.acl",
        )  # fmt: skip
        server.authority = folder / "ca.crt"
        stack.push_async_callback(server.end)
        await server.start()

        async def answers() -> bool:
            client = redis_store.client(server.url())
            try:
                with redis_store.guard():
                    await client.info("server")
            except StoreUnavailable:
                return False
            finally:
                await client.aclose()
            return True

        await wait_until(answers)
        yield server


async def test_the_control_plane_and_jobs_over_tls_as_a_user_with_few_rights(
    stores: LiveStores, secured: Secured, database_url: str
) -> None:
    environment = stores.environment | {
        "REDIS_URL": secured.url(),
        "DATABASE_URL": database_url,
        "DRAWBRIDGE_JOBS": "tests.kinds",
        "DRAWBRIDGE_DRAIN_DELAY_S": "0",
        "DRAWBRIDGE_ADMIN_TOKEN": PASSWORD,
    }
    await migrate(database_url)
    async with (
        replica("service", environment) as service,
        replica("worker", environment) as worker,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {PASSWORD}"}) as http,
    ):
        base = (await service.logged("serving"))["url"]
        await worker.logged("phase", phase="running")
        async with http.post(f"{base}/jobs/echo", json={"payload": 1}) as answer:
            assert answer.status == 202
            run_id = (await answer.json())["run_id"]

        async def completed() -> bool:
            async with http.get(f"{base}/jobs/{run_id}") as answer:
                return bool((await answer.json())["status"] == "completed")

        await wait_until(completed)
        path = f"{base}/control/flags/{MAINTENANCE}?wait=quiesced&timeout=30"
        async with http.put(path, json={"is_active": True}) as answer:
            assert answer.status == 200, await answer.text()


@pytest.mark.parametrize(("trusting", "user"), [(False, "drawbridge"), (True, "nobody")])
async def test_who_does_not_trust_it_or_is_no_user_is_told_in_a_word(
    secured: Secured, trusting: bool, user: str
) -> None:
    client = redis_store.client(secured.url(user, trusting=trusting))
    wanted = "authentication failed" if trusting else "certificate is not trusted"
    with pytest.raises(StoreUnavailable, match=wanted), redis_store.guard():
        await client.info("server")
    await client.aclose()


async def test_a_cluster_by_tls_as_a_user_with_few_rights(tmp_path: Path) -> None:
    Authority.of(tmp_path, "localhost")
    users = (ROOT / "deploy" / "redis" / "users.acl").read_text().replace("<password>", PASSWORD)
    [rights] = [line.split()[2:] for line in users.splitlines() if " drawbridge " in line]
    async with clustered(program=SERVER, certificates=tmp_path) as nodes:
        for node in nodes.nodes.values():
            await nodes.do(node, "ACL", "SETUSER", "drawbridge", *rights)
        query = f"ssl_ca_certs={tmp_path}/ca.crt"
        url = f"rediss+cluster://drawbridge:{PASSWORD}@{nodes.secure}/0?{query}"
        await preflight.check_redis(url, 3)
        servers = Servers(url)
        async with aclosing(servers):
            projection = Projection(
                servers.commands(keys.CONTROL), SystemClock(), spread=servers.spread,
                shards=shards(3),
            )  # fmt: skip
            document = Document(1, 1, {MAINTENANCE: Flag()})
            await projection.write(document)
            assert await projection.read() == document
            jobs = JobStateManager.on(servers, JobsSection(shards=3))
            accepted = await jobs.create_job(
                msgspec.structs.replace(new("echo"), run_id=jobs.new_id("echo"))
            )
            record = await jobs.get_job(accepted.run_id)
            assert record is not None
            assert record.status == "queued"
        wrong = url.replace(f":{PASSWORD}@", ":wrong@")
        with pytest.raises(StoreUnavailable, match="authentication failed"):
            await preflight.check_redis(wrong)
        with pytest.raises(StoreUnavailable, match="certificate is not trusted"):
            await preflight.check_redis(url.partition("?")[0])


async def test_a_cluster_that_is_not_called_one_is_refused_at_the_start(stores: LiveStores) -> None:
    names = [f"cluster-{number}" for number in range(3)]
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        nodes = []
        for name, port in free_ports(names).items():
            # The bus' own port is free as far as anybody knows.
            [bus] = free_ports(["bus"]).values()
            lines = (f"port {port}", "cluster-enabled yes", f"cluster-port {bus}")
            nodes.append(Node(SERVER, folder / name, port, *lines))
            stack.push_async_callback(nodes[-1].end)
            await nodes[-1].start()
        url = f"redis://127.0.0.1:{nodes[0].port}/0"

        async def refused() -> bool:
            try:
                await preflight.check_redis(url)
            except StoreUnavailable:
                return False
            except ConfigError as error:
                return "leads to a Redis Cluster" in str(error)
            raise AssertionError("it was taken for a single server")

        await wait_until(refused)
        for role in ("service", "worker"):
            async with replica(role, stores.environment | {"REDIS_URL": url}) as process:
                assert await process.ended() == 2
                said = [line["event"] for line in process.lines if line.get("plain")]
                assert len(said) == 1
                assert "REDIS_URL leads to a Redis Cluster" in said[0]
