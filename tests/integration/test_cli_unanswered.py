"""Changes from the command line that had no answer: what scripts are told, and who is named."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from control import ids, keys
from control.config import Config, RedisSection
from control.flags.document import INGESTION
from tests.planes import Planes
from tests.stack import clean_environment, drawbridge, wait_until

Run = Callable[..., Awaitable[tuple[int, str, str]]]
QUICKLY = ("--timeout", "0.2")
NO_ANSWER = "it may still be carried out, look at the flags before you repeat it"


def change(config: Config) -> Run:
    """Runs a change against the stores of ``config``: exit status, stdout, stderr."""
    environ = clean_environment(
        REDIS_URL=config.redis.url,
        DATABASE_URL=config.postgres.url,
        DRAWBRIDGE_DATA_DIR="/nonexistent",
    )

    async def run(*options: str) -> tuple[int, str, str]:
        return await drawbridge("flag", "set", INGESTION, "on", *options, environ=environ)

    return run


def unanswered(out: str, outcome: str, detail: str) -> list[str]:
    """The stragglers of the one object on stdout."""
    assert out.count("\n") == 1
    told = json.loads(out)
    assert told.keys() == {"outcome", "detail", "command_id", "stragglers"}
    assert told["outcome"] == outcome
    assert detail in told["detail"]
    assert ids.is_id(told["command_id"])
    stragglers: list[str] = told["stragglers"]
    return stragglers


async def test_nobody_listens(fleet: Planes) -> None:
    status, out, err = await change(fleet.config)("--json")
    why = "no instance of Drawbridge listens on this Redis: is one running?"
    assert (status, err) == (1, f"drawbridge: {why}\n")
    assert unanswered(out, "unheard", why) == []


async def test_somebody_listens_who_is_no_instance(fleet: Planes, redis: Redis) -> None:
    async with redis.pubsub() as deaf:
        await deaf.subscribe(keys.COMMANDS_CHANNEL)
        status, out, err = await change(fleet.config)("--json", *QUICKLY)
    assert (status, err.count("\n")) == (3, 1)
    assert unanswered(out, "timed_out", NO_ANSWER) == []


async def test_who_is_live_and_does_not_answer_is_named(fleet: Planes, redis: Redis) -> None:
    planes = [await fleet.open(kind) for kind in ("service", "worker")]
    await planes[0].acknowledged(planes[0].replica.position, "applied", timeout_s=10)
    for plane in planes:  # live, but deaf
        for listener in tuple(plane.subscriber._listeners[keys.COMMANDS_CHANNEL.encode()]):
            await plane.subscriber.remove(keys.COMMANDS_CHANNEL, listener)

    async def all_deaf() -> bool:
        [(_, count)] = await redis.pubsub_numsub(keys.COMMANDS_CHANNEL)
        return bool(count == 0)

    await wait_until(all_deaf)
    async with redis.pubsub() as deaf:
        await deaf.subscribe(keys.COMMANDS_CHANNEL)
        run = change(fleet.config)
        for options in (("--json",), ()):
            status, out, err = await run(*options, *QUICKLY)
            assert (status, err.count("\n")) == (3, 3)
            assert f"{NO_ANSWER}; of 2 live instances none has answered:" in err
            for report in (plane.presence.current() for plane in planes):
                assert f"  {report.kind} {report.id} on {report.host} (process " in err
            if options:
                live = sorted(plane.instance for plane in planes)
                assert unanswered(out, "timed_out", NO_ANSWER) == live
            else:
                assert out == ""


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ((), "redis is unavailable: connection failed"),
        (("--api", "http://127.0.0.1:1"), "no connection: http://127.0.0.1:1"),
    ],
)
async def test_a_store_or_the_api_is_away(fleet: Planes, way: tuple[str, ...], why: str) -> None:
    config = replace(fleet.config, redis=RedisSection("redis://127.0.0.1:1/0"))
    status, out, err = await change(config)("--json", *way)
    assert (status, err.count("\n")) == (1, 1)
    assert why in err
    assert unanswered(out, "unavailable", why) == []
