"""What is shipped is whole: the wheel, installed elsewhere, starts and finds its own files."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = (".lua", ".sql", ".cypher", ".mps", ".css", ".js", ".html", ".svg", "py.typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True,
        capture_output=True,
    )
    [built] = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_file_that_the_code_reads(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    for room in ("control", "worker", "service", "deploy"):
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and path.name.endswith((*NEEDED, ".py")):
                assert str(path.relative_to(ROOT)) in packed
    assert not [name for name in packed if name.startswith("tests")]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the wheel installed; its dependencies are borrowed from this one."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, with_pip=False)
    [packages] = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    return home / "bin" / "python"


def test_the_installed_code_is_the_wheels_and_every_command_is_there(
    python: Path, tmp_path: Path
) -> None:
    script = (
        "import control; from control.cli import COMMANDS, cli; import click;"
        "[cli.get_command(click.Context(cli), name) for name in COMMANDS];"
        "print(control.__file__, control.__version__)"
    )
    done = subprocess.run(
        [python, "-P", "-c", script],
        cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(python.parents[1]) in done.stdout


def test_the_installed_wheel_brings_everything_up_and_solves(python: Path, tmp_path: Path) -> None:
    """Scripts, queries, the sample model and the pages are found where the wheel put them."""
    command = [python, "-P", "-m", "control.cli", "up", "--json", "--port", "0", "--sample"]
    with (
        (tmp_path / "errors").open("w+") as errors,
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=errors
        ) as up,
    ):
        try:
            assert up.stdout is not None
            api = json.loads(up.stdout.readline())["services"][0]
            with urllib.request.urlopen(f"{api}/docs/swagger-ui.css") as answer:
                assert answer.status == 200
            give_up = time.monotonic() + 30
            while "optimum 158" not in (tmp_path / "errors").read_text():
                assert time.monotonic() < give_up, (tmp_path / "errors").read_text()
                with urllib.request.urlopen(f"{api}/health"):
                    pass
        finally:
            up.send_signal(signal.SIGINT)


def environment(home: Path) -> dict[str, str]:
    """A user who has nothing but a home folder."""
    return {"PATH": os.environ["PATH"], "HOME": str(home)}
