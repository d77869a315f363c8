"""The option ``--api``, of every command that can ask a service."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from control.cli import times
from control.settings import http_url

F = TypeVar("F", bound=Callable[..., Any])


def option(summary: str) -> Callable[[F], F]:
    """The option; what is no URL of a service is a usage error, before anything is asked."""
    return click.option("--api", metavar="URL", callback=times.option(http_url), help=summary)
