"""The services that are known by name: each is asked at its own address, over a faked network."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses
from redis.asyncio import Redis

from control.clock import SystemClock
from control.health import external
from control.health.reasons import reason
from tests.conftest import LiveStores

SUPABASE = "https://xyz.supabase.co"
ADDRESSES = {
    "clerk": "https://api.clerk.com/v1/jwks",
    "resend": "https://api.resend.com/",
    "s3": "https://s3.amazonaws.com/",
    "stripe": "https://api.stripe.com/v1/",
    "supabase": SUPABASE + "/auth/v1/health",
    "twilio": "https://api.twilio.com/2010-04-01.json",
}


class Response(aiohttp.ClientResponse):
    """aioresponses does not know of an argument that aiohttp wants since 3.14."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, stream_writer=Mock(output_size=0), **named)


@pytest.fixture
def network() -> Iterator[aioresponses]:
    with aioresponses() as faked:
        yield faked


async def found(stores: LiveStores, name: str) -> str | None:
    """``None`` where the service is well, else the word that bodies show."""
    entry = f"supabase={SUPABASE}" if name == "supabase" else name
    health = replace(stores.config.health, external=(entry,), external_every_s=60.0)
    config = replace(stores.config, health=health)
    async with external.checks(config, "one", clock=SystemClock()) as (check,):
        try:
            details = await check.probe()
        except Exception as error:
            return reason(error)
    assert details["seen_by"] == "one"
    return None


def test_every_preset_is_tried() -> None:
    assert ADDRESSES.keys() == external.PRESETS.keys()


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (200, None), (401, None), (429, None), (500, "HTTP 500"), (503, "HTTP 503"),
        (TimeoutError(), "Timeout"),
        (aiohttp.ServerDisconnectedError("sk_live_secret"), "ServerDisconnected"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_a_preset_answers(
    stores: LiveStores,
    redis: Redis,
    network: aioresponses,
    name: str,
    fault: int | Exception,
    word: str | None,
) -> None:
    told = {"status": fault} if isinstance(fault, int) else {"exception": fault}
    network.get(ADDRESSES[name], response_class=Response, **told)
    assert await found(stores, name) == word
