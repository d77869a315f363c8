"""Submits jobs from within an engine's environment: `python driver.py MODULE`.

Reads one JSON object a line from stdin, ``{"do": NAME, …}``, and answers with one a line: the
methods of :class:`Driver`. Ends with stdin. MODULE has a class ``Client``, made without arguments
inside the running loop, with

    async open() / close()
    async submit(slot) -> handle            one job, durably in Redis once this returns
    async submit_many(count) -> handles     the fastest way the engine has; absent: it has none
    async finished(handles) -> int          how many of those ended with their result stored, at
                                            least; exact in telling none from some from all
    async result(handle) -> int | None      the stored result, by the engine's own means
    async rested() -> bool                  whether nothing is left to be done for jobs that have
                                            ended, such as archiving; absent: there never is
"""

import asyncio
import importlib
import itertools
import json
import os
import random
import sys
import time
from typing import Any

import noop

BATCH = 500
"""Jobs that are submitted together where an engine can."""

LOOK_EVERY_S = 0.01
CHECKED = 300
PAUSES_S = {"in_a_row": (0.001, 0.003), "rested": (0.015, 0.035)}
"""From a job's start to the next one, which meets an idle worker; random, to hit every phase of a
poll. After the longer pauses the processes have cooled down."""

_ANSWER_S = 10.0


class Driver:
    """What the runner may ask for."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._handles: list[Any] = []
        self._slots = iter(range(noop.SLOTS))

    async def one_by_one(self, most: int, seconds: float) -> dict[str, Any]:
        """Submit up to ``most`` jobs for ``seconds``, each after the one before."""
        began, before = time.perf_counter(), len(self._handles)
        until = began + seconds
        while len(self._handles) - before < most and time.perf_counter() < until:
            self._handles.append(await self._client.submit(noop.UNMARKED))
        return _rate(len(self._handles) - before, began)

    async def bulk(self, count: int) -> dict[str, Any]:
        """Submit ``count`` jobs in batches; one by one, and without a rate, where none exist."""
        began = time.perf_counter()
        if not hasattr(self._client, "submit_many"):
            await self.one_by_one(count, 3600)
            return {"count": count, "per_second": None}
        for at in range(0, count, BATCH):
            self._handles += await self._client.submit_many(min(BATCH, count - at))
        return _rate(count, began)

    async def drained(self) -> dict[str, Any]:
        """Wait until all submitted jobs have ended, from the last look that saw none ended."""
        since = time.perf_counter()
        while True:
            finished = await self._client.finished(self._handles)
            now = time.perf_counter()
            if finished >= len(self._handles):
                return _rate(len(self._handles), since, now)
            if not finished:
                since = now
            await asyncio.sleep(LOOK_EVERY_S)

    async def check(self) -> dict[str, Any]:
        """Read some results back; how many were right, of how many."""
        sample = random.sample(self._handles, min(CHECKED, len(self._handles)))
        results = [await self._client.result(handle) for handle in sample]
        others = [repr(result) for result in results if result != noop.UNMARKED]
        return {"right": len(sample) - len(others), "of": len(sample), "others": others[:3]}

    async def rest(self, seconds: float) -> dict[str, Any]:
        """Wait until the worker has nothing left to do, for ``seconds`` at most."""
        until = time.perf_counter() + seconds
        while hasattr(self._client, "rested") and not await self._client.rested():
            if time.perf_counter() > until:
                raise TimeoutError(f"the worker does not come to rest within {seconds:g} s")
            await asyncio.sleep(LOOK_EVERY_S)
        return {}

    async def pickup(self, pauses: str, samples: int, seconds: float) -> dict[str, Any]:
        """From the call that submits a job to its start on an idle worker, in milliseconds."""
        until, took_ms = time.perf_counter() + seconds, []
        for slot in itertools.islice(self._slots, samples):
            if time.perf_counter() > until:
                break
            called = time.monotonic_ns()
            self._handles.append(await self._client.submit(slot))
            while not (started := noop.started_ns(slot)):
                if time.monotonic_ns() - called > _ANSWER_S * 1e9:
                    raise TimeoutError(f"a job did not start within {_ANSWER_S:g} s")
                await asyncio.sleep(0.001)
            took_ms.append((started - called) / 1e6)
            await asyncio.sleep(random.uniform(*PAUSES_S[pauses]))
        return {"took_ms": took_ms}

    async def warm_up(self) -> dict[str, Any]:
        """Bring one job to its end, as soon as the engine takes jobs at all."""
        until = time.perf_counter() + _ANSWER_S
        while True:
            try:
                handle = await self._client.submit(noop.UNMARKED)
                break
            except Exception:
                if time.perf_counter() > until:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)
        while await self._client.result(handle) is None:
            if time.perf_counter() > until:
                raise TimeoutError(f"the first job did not end within {_ANSWER_S:g} s")
            await asyncio.sleep(LOOK_EVERY_S)
        return {}


def _rate(count: int, began: float, ended: float | None = None) -> dict[str, Any]:
    seconds = (ended or time.perf_counter()) - began
    return {"count": count, "seconds": seconds, "per_second": count / seconds}


async def serve(module: str) -> None:
    """Answer until stdin ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    client = importlib.import_module(module).Client()
    await client.open()
    driver = Driver(client)
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            answer = await getattr(driver, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
    await client.close()


def main() -> None:
    """Run on uvloop where the engine's environment has it."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve(sys.argv[1]))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(sys.argv[1]))


if __name__ == "__main__":
    main()
