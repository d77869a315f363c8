"""Changing flags over HTTP in tests, and work that is under way meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from control import keys
from control.flags.document import MAINTENANCE
from tests.serving import MODEL, MPS, Served, problem

TOKEN = {"Authorization": "Bearer the-admin-token"}
FLAG = f"/control/flags/{MAINTENANCE}"
ON = {"is_active": True, "reason": "db upgrade"}


async def settled(redis: Redis) -> None:
    """As if the fleet had been there for a while: nobody live can be missing on its roll."""
    await redis.set(keys.BEGAN, int(time.time() * 1000) - 60_000)


async def ask(
    api: Served, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, Any], Any]:
    """Status, document and headers of an answer to an administrator."""
    sent = {**TOKEN, **{name.replace("_", "-"): text for name, text in headers.items()}}
    async with api.http.request(method, path, json=body, headers=sent) as response:
        if response.status >= 400:
            return response.status, await problem(response), response.headers
        return response.status, await response.json(), response.headers


async def rested(redis, flag: str = MAINTENANCE) -> None:
    """As if the debounce of the last change had run out."""
    await redis.delete(keys.debounce(flag))


def etag(api: Served) -> str:
    return f'"{api.plane.replica.position}"'


async def fleet_of(api: Served, size: int) -> bool:
    return len(await api.plane.replicas()) == size


class held_upload:  # noqa: N801 - used as a function
    """A submission that is under way until the event is set, or the block ends."""

    def __init__(self, api: Served) -> None:
        self._api, self._begun, self._held = api, asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> asyncio.Event:
        self._task = asyncio.create_task(self._post())
        await self._begun.wait()
        return self._held

    async def __aexit__(self, *_error: object) -> None:
        self._held.set()
        await self._task

    async def _slowly(self) -> AsyncIterator[bytes]:
        self._begun.set()  # only once the service has asked for the body
        yield MODEL[:100]
        await self._held.wait()
        yield MODEL[100:]

    async def _post(self) -> None:
        async with self._api.http.post(
            "/optimize", data=self._slowly(), headers=MPS, expect100=True
        ):
            pass
