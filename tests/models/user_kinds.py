"""Kinds as a user declares them, with every kind of payload."""

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec

from worker import JobContext, job, resource
from worker.cpu.context import Context


class Greeting(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    times: int = 1


@dataclass
class Sum:
    terms: list[int]


class Place(TypedDict):
    city: str


class Passing(Exception):
    """May not come again."""


@resource
async def words() -> AsyncIterator[dict[str, str]]:
    """Opened once a worker."""
    yield {"hello": "ahoy"}


@job("greet")
async def greet(context: JobContext, payload: Greeting) -> dict[str, str]:
    """A struct."""
    for step in range(payload.times):
        context.progress(step=step + 1)
    context.log.info("greeted", whom=payload.name)
    return {"hello": payload.name}


@job("add", cpu=True)
def add(context: Context, payload: Sum) -> int:
    """A dataclass, CPU-bound; cancellable between two terms."""
    done: dict[str, int] = context.restored or {"at": 0, "sum": 0}
    for at, term in enumerate(payload.terms[done["at"] :], start=done["at"]):
        if context.cancelled:
            context.log.info("stopped", at=at, draining=context.draining)
            break
        done = {"at": at + 1, "sum": done["sum"] + term}
        context.progress(**done)
        context.checkpoint(done)
    return done["sum"]


@job("weather", unique=lambda place: place["city"])
async def weather(context: Any, payload: Place) -> str:
    """A TypedDict."""
    return f"rain in {payload['city']}"


@job("shout")
async def shout(context: JobContext, payload: Any) -> Any:
    """Any JSON, and a resource."""
    return [context.resource(words)["hello"], payload]


@job("count", retry_on=(Passing,), max_attempts=2)
async def count(context: JobContext, payload: dict[str, int]) -> dict[str, int]:
    """Counts up, one turn of the loop a step; hands itself back when its worker drains."""
    at = context.restored or 0
    while at < payload["to"]:
        if at == payload.get("trip"):
            raise Passing("not now")
        if context.draining and not payload.get("deaf"):
            context.hand_back()
        at += 1
        context.checkpoint(at)
        await asyncio.sleep(0)
    if payload.get("wait"):
        await asyncio.Event().wait()
    return {"counted": at, "attempt": context.attempt}


@job("sleepy", cpu=True)
def sleepy(context: Context, payload: Any) -> None:
    """Deaf to everything."""
    context.progress(asleep=True)
    threading.Event().wait()


@job("chain")
async def chain(context: JobContext, payload: int) -> str:
    """Submits its successor."""
    return await context.submit("chain", payload + 1, key="next")
