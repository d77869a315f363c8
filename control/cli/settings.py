"""`drawbridge config`: every setting, its value, its default and where the value came from."""

import os
import sys

import click
import msgspec
from rich.console import Console
from rich.table import Table

from control.running import load_config

_WIDE = 1000  # columns of a pipe or a file: nothing is folded there


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def config(*, as_json: bool) -> None:
    """Print every setting and where it came from, secrets masked."""
    rows = list(load_config(os.environ).rows())
    if as_json:
        settings = {
            variable: {"value": value, "default": default, "source": source, "help": summary}
            for variable, value, default, source, summary in rows
        }
        click.echo(msgspec.json.encode(settings).decode())
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("variable", "value", "default", "source"):
        table.add_column(heading, no_wrap=heading == "variable", overflow="fold")
    for variable, value, default, source, _ in rows:
        style = None if source == "default" else "bold"
        table.add_row(variable, value, default, source, style=style)
    # Plain cells: a value such as [x] is not markup.
    Console(width=None if sys.stdout.isatty() else _WIDE, markup=False).print(table)
