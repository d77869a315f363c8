"""Following a job while the bridge goes up and comes down again."""

import asyncio
import sys
from pathlib import Path

from redis.asyncio import Redis

from tests.conftest import LiveStores
from tests.serving import MODEL, served, with_database
from tests.stack import SO_S, clean_environment
from worker.jobs.job import JobState


async def test_following_waits_until_the_bridge_is_lowered(
    stores: LiveStores, redis: Redis, database_url: str, tmp_path: Path
) -> None:
    model = tmp_path / "tiny.mps"
    model.write_bytes(MODEL)
    async with served(await with_database(stores.config, database_url)) as api:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "control.cli", "optimize", str(model), "--follow",
            env=clean_environment(DRAWBRIDGE_API=api.url),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        try:
            await asyncio.wait_for(process.stderr.readuntil(b"queued"), SO_S)
            claim = await api.claim()
            await api.put_flag(reason="db upgrade")
            await asyncio.wait_for(process.stderr.readuntil(b"waiting for the bridge"), SO_S)
            await api.finish(claim, JobState.COMPLETED, result=b'{"outcome": "optimal"}')
            await api.put_flag(value=False)
            out, _ = await asyncio.wait_for(process.communicate(), SO_S)
            assert (process.returncode, out) == (0, b"optimal\n")
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
