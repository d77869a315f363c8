"""What is shipped is whole: the wheel, installed elsewhere, starts and finds its own files."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = (".lua", ".sql", ".mps", ".css", ".js", "py.typed")


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


def test_the_installed_wheel_starts_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are borrowed from this environment; its own code is only the wheel's."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    [packages] = home.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "borrowed.pth").write_text("\n".join(borrowed))
    script = (
        "import control, control.sql, worker.jobs.scripts, worker.jobs.kinds as k;"
        "from control.cli import COMMANDS, cli; import click;"
        "from service import app, routes;"
        "assert 'accept' in worker.jobs.scripts._texts();"
        "assert k.load(()).get('optimize');"
        "[cli.get_command(click.Context(cli), name) for name in COMMANDS];"
        "print(control.__file__, control.__version__)"
    )
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [home / "bin" / "python", "-P", "-c", script],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(packages) in done.stdout
