"""The `drawbridge` command. Each subcommand is imported only when it is called."""

import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from control import __version__
from control.errors import ConfigError, DrawbridgeError

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "up": (
            "deploy.embedded.command:up",
            "Start everything on this machine: stores, services, workers.",
        ),
        "service": ("service.main:service", "Run one API service."),
        "worker": ("worker.main:worker", "Run one worker."),
        "optimize": (
            "control.cli.optimize:optimize",
            "Submit a model and follow it to its optimum.",
        ),
        "ingest": ("control.cli.ingest:ingest", "Upload a network of nodes and edges."),
        "networks": ("control.cli.networks:networks", "List and show the networks."),
        "jobs": ("control.cli.jobs:jobs", "Submit, list, show and cancel jobs."),
        "maintenance": (
            "control.cli.maintenance:maintenance",
            "Raise the bridge over the whole fleet, lower it, look at it.",
        ),
        "flag": ("control.cli.flags:flag", "Set, toggle, reset and list flags."),
        "replicas": ("control.cli.replicas:replicas", "Show every live instance."),
        "events": ("control.cli.events:events", "Show what happens to flags and instances."),
        "audit": ("control.cli.audit:audit", "Show who changed what, and check the record."),
        "components": ("control.cli.components:components", "Show how every component is."),
        "incident": ("control.cli.incidents:incident", "Tell of incidents on the status page."),
        "window": (
            "control.cli.windows:window",
            "Plan maintenance that raises the bridge by itself.",
        ),
        "keys": ("control.cli.api_keys:keys", "Create, list and revoke API keys."),
        "config": ("control.cli.settings:config", "Print every setting and where it came from."),
        "migrate": (
            "control.cli.migrate:migrate",
            "Bring the schemas of PostgreSQL and the graph up to date.",
        ),
        "doctor": ("control.cli.doctor:doctor", "Check every dependency and say what to do."),
    }
)
"""The whole command line on one page: name → (where it is, what it does)."""


class _Commands(click.Group):
    """Looks a subcommand up in :data:`COMMANDS` and imports it on demand."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="drawbridge")
def cli() -> None:
    """Run long computations as jobs, and raise the bridge over all of them with one command.

    Start with `drawbridge up`. Every other command finds the stack that it started.
    """


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Exit status: 0 done, 1 refused or failed, 2 usage or configuration.

    Commands that wait for something end with 3 where it did not come in time, with 130 on Ctrl-C.
    """
    try:
        return cli.main(args=arguments, prog_name="drawbridge")
    except ConfigError as error:
        _fail(error, 2)
    except DrawbridgeError as error:
        _fail(error, 1)


def _fail(error: Exception, status: int) -> None:
    print(f"drawbridge: {error}", file=sys.stderr)
    sys.exit(status)
