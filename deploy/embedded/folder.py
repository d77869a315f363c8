"""The data folder of the embedded stack: one user's, one stack's at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from control.errors import DrawbridgeError
from control.running import LOCK, NOTE

LOG_MAX = 8 << 20
"""Size in bytes beyond which a log file is put aside at the next start."""

_SOCKET_PATH_MAX = 100  # bytes; Linux allows 107, macOS 103
_LONGEST_SOCKET = ".s.PGSQL.5432.lock"
_LOCK_PATIENCE_S = 0.5  # other commands look at the lock for a moment


class DataFolder:
    """Where a stack keeps everything: data, logs, secrets, sockets and the note that it runs.

    Opening it makes it (mode 0700) and takes its lock; :meth:`close` lets go. Raises
    :class:`DrawbridgeError` where the folder is another's, or another stack runs on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        try:
            self._make()
            self._lock = self._locked()
            self.logs = _private(self.path / "logs")
            self.run = self._runtime_folder()
        except OSError as error:
            raise DrawbridgeError(
                f"cannot use the data folder {self.path}: {error.strerror}"
            ) from None

    def _make(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.stat().st_uid != os.geteuid():
            raise DrawbridgeError(
                f"the data folder {self.path} belongs to another user; "
                "name one of your own with --data-dir"
            )
        if not (self.path / LOCK).exists() and any(self.path.iterdir()):
            raise DrawbridgeError(
                f"{self.path} holds files that are not Drawbridge's; "
                "name a new folder with --data-dir"
            )
        self.path.chmod(0o700)

    def _locked(self) -> int:
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        give_up = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < give_up:
                    time.sleep(0.02)
                    continue
                holder = os.read(lock, 32).decode().strip() or "unknown"
                os.close(lock)
                raise DrawbridgeError(
                    f"the data folder {self.path} is in use by the process {holder}; "
                    f"stop it (kill {holder}) or name another folder with --data-dir"
                ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _runtime_folder(self) -> Path:
        inside = self.path / "run"
        if len(os.fsencode(inside / _LONGEST_SOCKET)) <= _SOCKET_PATH_MAX:
            return _private(inside)
        mark = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return _private(Path(tempfile.gettempdir()) / f"drawbridge-{os.geteuid()}-{mark}")

    def subfolder(self, name: str) -> Path:
        """A folder of one store (mode 0700). Started by root, PostgreSQL's may be nobody's."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def secret(self, name: str, make: Callable[[], str] = secrets.token_urlsafe) -> str:
        """A password or token that is made once for this folder."""
        return self.secret_file(name, make).read_text().strip()

    def secret_file(self, name: str, make: Callable[[], str] = secrets.token_urlsafe) -> Path:
        """The file (mode 0600) that holds that secret."""
        path = _private(self.path / "secrets") / name
        if not path.exists():
            write_private(path, make())
        return path

    def log(self, name: str) -> Path:
        """The log file of a child; a large one of an earlier start is put aside first."""
        path = self.logs / f"{name}.log"
        if path.exists() and path.stat().st_size > LOG_MAX:
            path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
        return path

    def write_note(self, note: Mapping[str, Any]) -> None:
        """Tell the other commands of this user where the stack is (:mod:`control.running`)."""
        write_private(self.path / NOTE, json.dumps(note))

    def close(self) -> None:
        """Take the note away and let go of the folder."""
        (self.path / NOTE).unlink(missing_ok=True)
        if self.run.parent != self.path:
            with contextlib.suppress(OSError):  # a server that was killed may have left something
                self.run.rmdir()
        os.close(self._lock)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step: old or new, never half of it."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    fresh.write_text(text)
    fresh.replace(path)


def _private(path: Path) -> Path:
    """``path`` as a folder of our own that nobody else may enter."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise DrawbridgeError(f"{path} is not a folder of this user; remove it and start again")
    path.chmod(0o700)
    return path
