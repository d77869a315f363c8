"""The note that a running `drawbridge up` leaves in its data folder, so that commands find it."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from control.config import Config, default_data_dir, load

NOTE = "stack.json"
LOCK = "lock"


def data_dir(environ: Mapping[str, str]) -> Path:
    """The data folder that ``environ`` names, else the user's own."""
    named = environ.get("DRAWBRIDGE_DATA_DIR", "").strip()
    return Path(named).expanduser() if named else default_data_dir(environ)


def find(folder: Path) -> dict[str, Any] | None:
    """The ready line of the stack that runs on ``folder`` now (as `up --json` prints it).

    ``None`` where none runs: a note left behind by a stack that was killed does not count, because
    the lock beside it is free. ``None`` too where the folder belongs to another user.
    """
    try:
        note = json.loads((folder / NOTE).read_text())
        lock = os.open(folder / LOCK, os.O_RDONLY)
    except (OSError, ValueError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return note if isinstance(note, dict) else None
    finally:
        os.close(lock)
    return None


def environment(note: Mapping[str, Any]) -> dict[str, str]:
    """The ready line as environment variables."""
    services: list[str] = note["services"]
    return {
        "REDIS_URL": note["redis_url"],
        "DATABASE_URL": note["database_url"],
        "NEO4J_URI": note["neo4j_uri"],
        "NEO4J_USER": note["neo4j_user"],
        "NEO4J_PASSWORD": note["neo4j_password"],
        "DRAWBRIDGE_TOKEN": note["admin_token"],
        **({"DRAWBRIDGE_API": services[0]} if services else {}),
    }


def load_config(environ: Mapping[str, str]) -> Config:
    """The configuration of a command: the environment, then the running stack, then defaults.

    Raises :class:`control.errors.ConfigError`.
    """
    folder = data_dir(environ)
    note = find(folder)
    running = environment(note) if note else {}
    return load(("environment", environ), (f"running stack in {folder}", running))
