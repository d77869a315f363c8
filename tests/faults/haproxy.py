"""HAProxy with the configuration that is shipped, in front of services at ports of this machine."""

import asyncio
import csv
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.stack import ROOT, SO_S, wait_until

PROGRAM = shutil.which("haproxy")
_SHIPPED = ROOT / "deploy" / "compose" / "haproxy.cfg"


class Balancer(NamedTuple):
    """A HAProxy that runs."""

    url: str
    control: Path

    async def up(self) -> int:
        """How many services it sends requests to."""
        reader, writer = await asyncio.open_unix_connection(str(self.control))
        try:
            writer.write(b"show stat -1 4 -1\n")
            text = (await reader.read()).decode()
        finally:
            writer.close()
        rows = csv.DictReader(text.removeprefix("# ").splitlines())
        return sum(row["pxname"] == "services" and row["status"].startswith("UP") for row in rows)

    async def has(self, count: int) -> None:
        """Wait until so many services are up in its eyes."""

        async def so() -> bool:
            return await self.up() == count

        await wait_until(so, SO_S)


@asynccontextmanager
async def balancing(port: int, services: Sequence[int]) -> AsyncIterator[Balancer]:
    """Run it on ``port``, in front of the ports ``services``; ended with the block."""
    assert PROGRAM is not None
    with TemporaryDirectory() as short:  # a socket's path may not be long
        control = Path(short) / "haproxy.sock"
        configuration = Path(short) / "haproxy.cfg"
        configuration.write_text(_here(_SHIPPED.read_text(), control, port, services))
        process = await asyncio.create_subprocess_exec(PROGRAM, "-q", "-db", "-f", configuration)
        try:
            await wait_until(control.exists)
            yield Balancer(f"http://127.0.0.1:{port}", control)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def _here(shipped: str, control: Path, port: int, services: Sequence[int]) -> str:
    """The shipped configuration with the addresses of this machine in the place of Docker's."""
    servers = "".join(f"    server s{at} 127.0.0.1:{at}\n" for at in services)
    text = shipped.replace("global\n", f"global\n    stats socket {control} level admin\n")
    text = text.replace("bind :8080", f"bind 127.0.0.1:{port}")
    text = re.sub(r"^resolvers .*?\n\n", "", text, flags=re.DOTALL | re.MULTILINE)
    text = text.replace(" init-addr none", "")
    text, found = re.subn(r"^ +server-template .*\n", servers, text, flags=re.MULTILINE)
    assert found == 1
    return text
