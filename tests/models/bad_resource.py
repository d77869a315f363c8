"""A resource that no worker can open."""

from collections.abc import AsyncIterator

from worker import resource


@resource
async def ledger() -> AsyncIterator[None]:
    raise ConnectionError("no ledger here")
    yield
