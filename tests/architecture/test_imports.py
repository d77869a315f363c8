"""Imports go one way: service → worker.jobs → control, worker → control, deploy → control."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("control", "worker", "service", "deploy")
MAY_IMPORT = {
    "control": {"control"},
    "worker": {"control", "worker"},
    "service": {"control", "worker.jobs", "service"},
    "deploy": {"control", "deploy"},
}
MAX_LINES = 400
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "core"}


def sources() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """Every module of ours that a file imports, wherever in the file, relative ones resolved."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            before = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*before, *([node.module] if node.module else [])))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in ROOMS}


def outside(path: Path) -> set[str]:
    """What a file imports that its room may not."""
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    return {
        name
        for name in imported(path)
        if not any(name == room or name.startswith(room + ".") for room in allowed)
    }


def test_there_is_something_to_check() -> None:
    assert len(sources()) > 40
    assert "control.errors.InvalidInput" in imported(ROOT / "worker" / "jobs" / "kinds.py")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    assert not outside(path)


def test_files_are_short_and_named_for_what_they_are() -> None:
    long = [path for path in sources() if len(path.read_text().splitlines()) > MAX_LINES]
    assert not long
    assert not [path for path in sources() if path.stem in FORBIDDEN_NAMES]


def test_tests_are_short_too() -> None:
    paths = (ROOT / "tests").rglob("*.py")
    assert not [path for path in paths if len(path.read_text().splitlines()) > MAX_LINES]


def test_only_entry_points_read_the_environment() -> None:
    """Everybody else gets a section of the configuration, or a mapping, from its caller."""
    readers = {
        str(path.relative_to(ROOT))
        for path in sources()
        if any(
            isinstance(node, ast.Attribute)
            and node.attr in ("environ", "getenv")
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            for node in ast.walk(ast.parse(path.read_text()))
        )
    }
    entries = {p for p in readers if p.startswith("control/cli/")} | {
        "control/bridge.py",
        "service/main.py",
        "worker/main.py",
        "worker/cpu/child.py",
        "worker/cpu/process.py",
        "deploy/embedded/command.py",
    }
    assert readers <= entries
