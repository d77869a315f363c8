"""`drawbridge incident`, `window` and `components` against a service."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from control.cli import main
from service.appkeys import STATUS
from tests.serving import Served, served, with_database
from tests.stack import clean_environment, wait_until


@pytest.fixture
async def api(stores, redis, database_url, monkeypatch: Any) -> AsyncIterator[Served]:
    config = await with_database(stores.config, database_url)
    async with served(config, admin_token="the-admin-token") as running:
        environ = clean_environment(
            DRAWBRIDGE_API=running.url, DRAWBRIDGE_TOKEN="the-admin-token", HOME="/nonexistent"
        )
        monkeypatch.setattr("os.environ", environ)
        await wait_until(lambda: running.app[STATUS].keeper.in_office)
        yield running


async def run(capsys: Any, *arguments: str, status: int = 0) -> str:
    """What a command prints, run in a thread of this process: starting one takes longer."""

    def call() -> int:
        try:
            main(list(arguments))
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    assert await asyncio.to_thread(call) == status, capsys.readouterr()
    printed: str = capsys.readouterr().out
    return "".join(line for line in printed.splitlines(True) if not line.startswith("20"))


async def test_incidents_and_windows_from_the_command_line(api: Served, capsys: Any) -> None:
    told = await run(capsys, "incident", "create", "Slow answers", "--severity", "major", "-c",
                     "API", "--next-update", "30m", "--json")  # fmt: skip
    made = json.loads(told.splitlines()[-1])
    assert made["affected_components"] == ["api"]
    assert made["next_update"]
    told = await run(
        capsys, "incident", "update", made["id"], "Found it.", "--status", "identified"
    )
    assert f"{made['id']} is identified." in told
    assert "Slow answers" in await run(capsys, "incident", "list")
    await run(capsys, "incident", "resolve", made["id"], "--root-cause", "a", "--resolution", "b")
    await run(capsys, "incident", "resolve", made["id"], status=1)
    assert "no incidents" in await run(capsys, "incident", "list", "--drafts")

    told = await run(capsys, "window", "create", "Upgrade", "--for", "30m", "-c", "database",
                     "--json")  # fmt: skip
    made = json.loads(told.splitlines()[-1])
    assert made["status"] == "in_progress"
    assert "Upgrade" in await run(capsys, "window", "list")
    await run(capsys, "window", "extend", made["id"], "1h")
    assert "is completed." in await run(capsys, "window", "finish", made["id"])
    assert "no maintenance is planned" in await run(capsys, "window", "list")
    assert "Upgrade" in await run(capsys, "window", "list", "--all")
    await run(capsys, "window", "create", "Upgrade", status=2)
    await run(capsys, "window", "cancel", made["id"], status=1)

    told = await run(capsys, "components", "--json", status=1)
    names = [each["name"] for each in json.loads(told.splitlines()[-1])]
    assert "Workers" in names, "and none lives, so the exit status is 1"
