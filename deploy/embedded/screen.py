"""What `drawbridge up` shows to people. Colours only on a terminal."""

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import click

from deploy.embedded import sample


def progress(line: str) -> None:
    """One step, on stderr. A terminal that is gone does not stop anything."""
    with suppress(OSError):
        click.echo(f"{click.style('drawbridge:', dim=True)} {line}", err=True)


def welcome(
    *,
    services: Sequence[str],
    workers: Sequence[str],
    folder: Path,
    found_by_others: bool,
    admin_token: str,
    anonymous: bool,
) -> None:
    """Where everything is and what to do next, on stdout. ``anonymous``: jobs need no token."""
    rows = [
        *(("service", url) for url in services),
        *(("worker", url) for url in workers),
        *(("API", f"{url}/docs") for url in services[:1]),
        *(("page", f"{url}/status  (for customers)") for url in services[:1]),
        ("data", str(folder)),
        ("logs", str(folder / "logs")),
        ("token", f"{admin_token}  (administrator)"),
    ]
    lines = ["", click.style("Drawbridge is up.", bold=True, fg="green"), ""]
    lines += [f"  {click.style(f'{name:<8}', dim=True)} {value}" for name, value in rows]
    if services:
        command = curl(services[0], "" if anonymous else admin_token)
        lines += ["", "Submit the sample model:", "", f"  {command}"]
    find = "finds this stack by itself"
    if not found_by_others:
        find = f"finds this stack after  export DRAWBRIDGE_DATA_DIR={shlex.quote(str(folder))}"
    lines += ["", f"Every other drawbridge command {find}."]
    lines += [f"Stop with Ctrl-C, or kill {os.getpid()}.", ""]
    click.echo("\n".join(lines))


def curl(api: str, token: str) -> str:
    """The command that submits the sample model, ready to be pasted."""
    words = ["curl", "-sS", f"{api}/optimize", "-H", f"Content-Type: {sample.CONTENT_TYPE}"]
    if token:
        words += ["-H", f"Authorization: Bearer {token}"]
    return shlex.join([*words, "--data-binary", f"@{sample.MODEL}"])
