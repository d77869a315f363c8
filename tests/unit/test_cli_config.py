"""`drawbridge config` and `drawbridge doctor`, as processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from control.config import Config
from tests.conftest import LiveStores

SECRET = "hunter2-hunter2"


def drawbridge(*arguments: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command with nothing in its environment but ``environ``."""
    base = {"PATH": os.environ["PATH"], "HOME": str(folder), "DRAWBRIDGE_DATA_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-m", "control.cli", *arguments],
        env=base | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_config_lists_every_setting_searchably(tmp_path: Path) -> None:
    name = "n" * 300
    done = drawbridge("config", folder=tmp_path, DRAWBRIDGE_ENVIRONMENT=name, NEO4J_PASSWORD=SECRET)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [name for name, *_ in Config().rows()]
    assert SECRET not in done.stdout
    (line,) = (line for line in lines if line.startswith("DRAWBRIDGE_ENVIRONMENT"))
    assert line.split() == ["DRAWBRIDGE_ENVIRONMENT", name, "development", "environment"]


def test_config_as_json(tmp_path: Path) -> None:
    done = drawbridge(
        "config",
        "--json",
        folder=tmp_path,
        REDIS_URL=f"redis://:{SECRET}@host",
        DRAWBRIDGE_PORT="0",
    )
    found = json.loads(done.stdout)
    assert set(found) == {name for name, *_ in Config().rows()}
    assert found["REDIS_URL"]["value"] == "redis://:***@host"
    port = found["DRAWBRIDGE_PORT"]
    assert (port["value"], port["default"], port["source"]) == ("0", "8080", "environment")


@pytest.mark.parametrize("command", ["config", "migrate", "doctor", "keys list"])
def test_a_bad_setting_stops_every_command_with_one_line_and_status_2(
    tmp_path: Path, command: str
) -> None:
    done = drawbridge(*command.split(), folder=tmp_path, DRAWBRIDGE_PROT="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "drawbridge: DRAWBRIDGE_PROT (from environment) is not a setting of Drawbridge; "
        "did you mean DRAWBRIDGE_PORT?"
    ]


@pytest.mark.parametrize("command", ["service", "up"])
def test_a_short_admin_token_stops_the_start(tmp_path: Path, command: str) -> None:
    done = drawbridge(command, folder=tmp_path, DRAWBRIDGE_ADMIN_TOKEN="hunter2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "drawbridge: DRAWBRIDGE_ADMIN_TOKEN (from environment) must be at least 16 characters "
        "long; blanks divide several"
    ]


@pytest.mark.parametrize("command", ["migrate", "keys list"])
def test_a_store_that_is_away_is_one_line_and_status_1(tmp_path: Path, command: str) -> None:
    address = f"postgresql://user:{SECRET}@127.0.0.1:1/x"
    done = drawbridge(*command.split(), folder=tmp_path, DATABASE_URL=address)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "drawbridge: database is unavailable: connection failed\n"


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {f["subject"]: f["verdict"] for f in json.loads(done.stdout)["findings"]}


def test_doctor_says_what_fails_and_what_to_do(tmp_path: Path) -> None:
    away = {
        "REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1",
        "DATABASE_URL": f"postgresql://user:{SECRET}@127.0.0.1:1/x",
        "NEO4J_URI": "bolt://127.0.0.1:1",
        "NEO4J_PASSWORD": SECRET,
    }
    done = drawbridge("doctor", "--json", folder=tmp_path, **away)
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert report["healthy"] is False
    failed = [f for f in report["findings"] if f["verdict"] == "fail"]
    assert {f["subject"] for f in failed} == {"redis", "database", "neo4j"}
    assert all("drawbridge up" in f["advice"] for f in failed)
    people = drawbridge("doctor", folder=tmp_path, **away)
    assert people.returncode == 1
    assert people.stdout.count("→") >= 3
    assert SECRET not in done.stdout + people.stdout


def test_doctor_names_a_data_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = drawbridge(
        "doctor", "--json", folder=tmp_path, DRAWBRIDGE_DATA_DIR=str(tmp_path / "file")
    )
    assert verdicts(done)["data folder"] == "fail"


async def test_doctor_finds_real_stores_well_once_they_are_migrated(
    stores: LiveStores, database_url: str, tmp_path: Path
) -> None:
    environ = stores.environment | {"DATABASE_URL": database_url}
    before = drawbridge("doctor", "--json", folder=tmp_path, **environ)
    assert before.returncode == 1
    assert {name for name, v in verdicts(before).items() if v != "ok"} == {"schema"}
    assert drawbridge("migrate", "--quiet", folder=tmp_path, **environ).returncode == 0
    after = drawbridge("doctor", "--json", folder=tmp_path, **environ)
    assert after.returncode == 0
    assert set(verdicts(after).values()) == {"ok"}
    wrong = drawbridge("doctor", "--json", folder=tmp_path, **environ | {"NEO4J_PASSWORD": SECRET})
    (finding,) = (f for f in json.loads(wrong.stdout)["findings"] if f["subject"] == "neo4j")
    assert finding["found"] == "authentication failed"
    assert "correct the user and the password" in finding["advice"]


async def test_doctor_objects_to_a_redis_that_may_lose_jobs(
    stores: LiveStores, database_url: str, tmp_path: Path
) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(stores.addresses.redis_url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            done = drawbridge("doctor", "--json", folder=tmp_path, **stores.environment)
        finally:
            await client.config_set("maxmemory-policy", "noeviction")
    assert verdicts(done)["redis eviction"] == "fail"
    assert done.returncode == 1
