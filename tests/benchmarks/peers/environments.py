"""A virtual environment for each peer, kept from one run to the next."""

import asyncio
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.peers.subjects import Subject

_INSTALL_S = 600
_DONE = "complete"


class NotInstalled(Exception):
    """An environment could not be set up; what pip said last."""


async def python_of(subject: Subject, cache: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of the peer's environment, set up where it is not there yet.

    Raises :class:`NotInstalled`.
    """
    if subject.python is not None:
        return subject.python
    lock = subject.lock.read_bytes()
    mark = hashlib.sha256(lock + sys.version.encode()).hexdigest()[:12]
    folder = cache / f"{subject.name}-{mark}"
    python = folder / "bin" / "python"
    if not (folder / _DONE).exists():
        say(f"installing {subject.title}")
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
        await _run(sys.executable, "-m", "venv", "--clear", str(folder))
        await _run(str(python), *pip, "--require-hashes", "-r", str(subject.lock))
        (folder / _DONE).touch()
    return python


async def version_of(subject: Subject, python: Path) -> str:
    """The version of a peer's package."""
    asked = f"from importlib.metadata import version; print(version({subject.package!r}))"
    return await _run(str(python), "-c", asked)


async def _run(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(_INSTALL_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise NotInstalled(f"{argv[0]} took more than {_INSTALL_S} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    said = output.decode(errors="replace").strip()
    if process.returncode:
        raise NotInstalled(said[-400:])
    return said
