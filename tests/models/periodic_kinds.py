"""Kinds that run by themselves."""

from typing import Any

import msgspec

from worker import job


class Scope(msgspec.Struct):
    days: int = 7


@job("tick", every="1s", misfire="all", internal=True)
async def tick(context: Any, payload: Any) -> None:
    """Each second."""


@job("tidy", cron="30 2 * * *", timezone="Europe/Berlin")
async def tidy(context: Any, payload: Scope) -> int:
    """Each night; may be submitted too."""
    return payload.days
