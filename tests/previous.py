"""Runs the tests of the release before against the schema of this tree.

``python -m tests.previous [COMMIT]``: the newest tag before HEAD, or a commit, is checked out into
a temporary worktree with an environment of its own. Its integration tests that use PostgreSQL run
there, on databases that this tree has migrated. Exit status of the tests; 0 where there is no
release before this one.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
PLUGIN = "schema_ahead"
_USES_POSTGRES = re.compile(r"\b(database_url|database|migrate)\b")
_OF_THE_MIGRATOR = ("test_migrations.py", "test_flags_migration.py")
"""They say which files are applied, and from what: a newer release's are not theirs."""

_OWN = ("DRAWBRIDGE_", "DATABASE_URL", "REDIS_URL", "NEO4J_", "VIRTUAL_ENV", "PYTHONPATH")


def main(commit: str | None) -> int:
    """Check the release out, set it up, run its tests."""
    commit = commit or newest_tag()
    if commit is None:
        print("There is no release before this one: nothing has to live with its schema.")
        return 0
    with checked_out(commit) as tree:
        print(f"Setting up {commit} ...", flush=True)
        setup = subprocess.run(
            ["make", "--silent", ".venv/dev.stamp"], cwd=tree, env=clean(), check=False
        )
        if setup.returncode != 0:
            return setup.returncode
        chosen = tests_of(tree)
        print(f"{len(chosen)} test files of {commit} on the schema of this tree:", flush=True)
        return run(tree, chosen)


def newest_tag() -> str | None:
    """The newest tag on the way to HEAD; one that HEAD itself carries is of this release."""
    found = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "HEAD^"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() if found.returncode == 0 else None


def tests_of(tree: Path) -> list[str]:
    """Its integration tests that use PostgreSQL."""
    return sorted(
        str(file.relative_to(tree))
        for file in (tree / "tests" / "integration").glob("test_*.py")
        if file.name not in _OF_THE_MIGRATOR and _USES_POSTGRES.search(file.read_text())
    )


def run(tree: Path, chosen: list[str]) -> int:
    """Run these tests with the plugin; pytest's exit status."""
    with TemporaryDirectory() as folder:
        shutil.copy(ROOT / "tests" / f"{PLUGIN}.py", folder)
        environment = {
            **clean(),
            "PYTHONPATH": folder,
            "SCHEMA_AHEAD": str(Path(sys.executable).with_name("drawbridge")),
        }
        command = [".venv/bin/python", "-m", "pytest", "-q", "-p", PLUGIN, *chosen]
        return subprocess.run(command, cwd=tree, env=environment, check=False).returncode


def clean() -> dict[str, str]:
    """The environment without what belongs to this tree."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A worktree of its own for the block."""
    with TemporaryDirectory(prefix="drawbridge-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", tree, commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", tree], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
