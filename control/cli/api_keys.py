"""`drawbridge keys`: create, list and revoke API keys."""

import os
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from control import cancelling
from control.cli.away import advised
from control.clock import SystemClock, iso
from control.errors import InvalidInput
from control.principals import ApiKey, ApiKeys, Role
from control.running import load_config
from control.stores.postgres import Database

T = TypeVar("T")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WIDE = 1000  # columns of a pipe or a file: nothing is folded there


def _span(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """A span of time: ``90d``, ``12h``, ``30m``."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,5})([smhdw])", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a span of time such as 90d, 12h or 30m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@click.argument("name")
@click.option("--role", type=click.Choice([str(role) for role in Role]), required=True)
@click.option(
    "--expires", callback=_span, help="How long it is good for: 90d, 12h. Default: for ever."
)
@_JSON
def create(*, name: str, role: str, expires: timedelta | None, as_json: bool) -> None:
    """Create a key for NAME and print it: once, for it is stored nowhere."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise click.BadParameter("must be 1 to 100 printable characters", param_hint="NAME")
    until = SystemClock().now() + expires if expires else None
    key, secret = _with_keys(lambda stored: stored.create(name, Role.named(role), expires_at=until))
    if as_json:
        click.echo(msgspec.json.encode({**_shown(key), "key": secret}).decode())
        return
    click.echo(secret)
    end = f"until {iso(until)}" if until else "until it is revoked"
    click.echo(f"{key.id} for {name}, {role}, {end}. Keep it now, it is not shown again.", err=True)


@keys.command("list")
@_JSON
def list_keys(*, as_json: bool) -> None:
    """List all keys, the revoked ones too. The keys themselves are not stored."""
    shown = [_shown(key) for key in _with_keys(lambda stored: stored.all())]
    if as_json:
        click.echo(msgspec.json.encode(shown).decode())
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "name", "role", "key", "state", "created_at", "expires_at"):
        table.add_column(heading, no_wrap=heading == "id", overflow="fold")
    for key in shown:
        hint = f"dbk_…{key['last_four']}"
        table.add_row(
            key["id"],
            key["name"],
            key["role"],
            hint,
            key["state"],
            key["created_at"],
            key["expires_at"] or "never",
        )
    Console(width=None if sys.stdout.isatty() else _WIDE, markup=False).print(table)


@keys.command()
@click.argument("key_id", metavar="ID")
@_JSON
def revoke(*, key_id: str, as_json: bool) -> None:
    """Refuse the key with this ID from now on; running services notice within a minute."""
    if not _with_keys(lambda stored: stored.revoke(key_id)):
        raise InvalidInput(f"no active key has the id {key_id} (`drawbridge keys list`)")
    click.echo(
        msgspec.json.encode({"id": key_id, "revoked": True}).decode()
        if as_json
        else f"{key_id} is revoked"
    )


def _with_keys(work: Callable[[ApiKeys], Awaitable[T]]) -> T:
    """Do ``work`` with the keys of the configured database."""
    config = load_config(os.environ)

    async def run() -> T:
        async with Database(config.postgres) as database:
            return await work(ApiKeys(database, SystemClock()))

    with advised(config):
        return cancelling.run(run())


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "role": str(key.role),
        "last_four": key.last_four,
        "state": key.state(SystemClock().now()),
        "created_at": iso(key.created_at),
        "expires_at": iso(key.expires_at) if key.expires_at else None,
        "revoked_at": iso(key.revoked_at) if key.revoked_at else None,
    }
