"""The README's way from nothing to a kind of one's own, walked as it is printed."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT, clean_environment

pytestmark = pytest.mark.timeout(180)

_BLOCK = re.compile(r"```(python|sh)\n(.*?)```", re.DOTALL)
COMMAND = """\
#!/bin/sh
if [ "$1" = up ]; then set -- "$@" --json --port 0; fi
PYTHONPATH="$PYTHONPATH:{root}" exec {python} -m control.cli "$@"
"""
"""What stands in for the installed command: this checkout's, on a free port, with its own data."""


def section() -> list[tuple[str, str]]:
    """The blocks of the section: (language, text)."""
    text = (ROOT / "README.md").read_text()
    _, _, rest = text.partition("### Your own kind of job\n")
    return _BLOCK.findall(re.split(r"\n###? ", rest)[0])


class Terminal:
    """A shell in the user's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        binaries = folder / "bin"
        binaries.mkdir()
        command = binaries / "drawbridge"
        command.write_text(COMMAND.format(root=ROOT, python=sys.executable))
        command.chmod(0o755)
        self.environ = clean_environment(
            PATH=f"{binaries}:{os.environ['PATH']}", DRAWBRIDGE_DATA_DIR=str(folder / "data")
        )
        self.environ.pop("PYTHONPATH")

    async def start(self, commands: str, **files: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "bash", "-ec", commands, cwd=self.folder, env=self.environ, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, **files,
        )  # fmt: skip

    async def run(self, commands: str) -> str:
        """What the commands print."""
        process = await self.start(commands)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, out
        return out.decode()


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    (tmp_path / "home").mkdir()
    return Terminal(tmp_path / "home")


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README calls curl")
async def test_from_nothing_to_an_own_kind(terminal: Terminal) -> None:
    blocks = section()
    for language, text in blocks:
        named = re.match(r"# (\w+\.py)\n", text)
        if language == "python" and named:
            (terminal.folder / named[1]).write_text(text)
    up, submit, curl = [text for language, text in blocks if language == "sh"]
    path = f"PYTHONPATH={ROOT}"
    await terminal.run(f"{path} {sys.executable} -m pytest -q -p no:cacheprovider test_mykinds.py")
    assert up == "DRAWBRIDGE_JOBS=mykinds PYTHONPATH=. drawbridge up\n"

    with (terminal.folder / "up.stderr").open("wb") as errors:
        stack = await terminal.start(up, stderr=errors)
    try:
        assert stack.stdout is not None
        ready = await asyncio.wait_for(stack.stdout.readline(), 60)
        assert ready, (terminal.folder / "up.stderr").read_text()
        host = json.loads(ready)["services"][0].removeprefix("http://")
        run = json.loads(await terminal.run(submit))
        assert run["hello"] == "Ada"
        post, get = curl.replace("localhost:8080", host).splitlines()
        receipt = json.loads(await terminal.run(post))
        assert receipt["status"] == "queued"
        follow = f"drawbridge jobs show {receipt['run_id']} --follow"
        assert "completed" in await terminal.run(follow)
        result = await terminal.run(get.replace("RUN_ID", receipt["run_id"]))
        assert json.loads(result) == {"run_id": receipt["run_id"], "hello": "Ada"}
    finally:
        os.killpg(stack.pid, signal.SIGTERM)
        await asyncio.wait_for(stack.wait(), 40)
        await stack.communicate()


def test_every_block_of_python_can_be_read() -> None:
    for language, text in section():
        if language == "python":
            compile(text, "README.md", "exec")
