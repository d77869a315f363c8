"""A client that knows nothing of Drawbridge but its API, and keeps a log of its own.

``python -m tests.faults.caller URL LOG TOKEN`` submits jobs, reads records and follows events, all
the while, until SIGTERM; then it waits for every job that was accepted to end, and ends itself.
Each line of the log is one request: ``{"at", "did": submit|read|follow, "status", "run_id",
"error"}``; at the end one line a job: ``{"did": "ended", "run_id", "status", "attempt"}``.
"""

import asyncio
import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any, TextIO
from uuid import uuid4

import aiohttp

PACE_S = 0.02
"""Between two requests of the same caller."""

CALLERS = 4
_ALL_ENDED_S = 120.0
_DEAD_END = aiohttp.ClientTimeout(total=90, sock_connect=5)


class Caller:
    """The requests of one process."""

    def __init__(self, url: str, log: TextIO, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._log = log
        self._http = http
        self._accepted: list[str] = []
        self.over = asyncio.Event()

    async def submit(self) -> None:
        """Submit small jobs; each under a key, as who may have to repeat does."""
        while not self.over.is_set():
            headers = {"Idempotency-Key": uuid4().hex}
            body = {"payload": {"for_s": 0.05}}
            status, said = await self._ask(
                "submit", "POST", "/jobs/nap", json=body, headers=headers
            )
            if status == 202:
                self._accepted.append(said["run_id"])
            await asyncio.sleep(PACE_S)

    async def read(self) -> None:
        """Read the record of the job that was accepted last."""
        while not self.over.is_set():
            if self._accepted:
                await self._ask("read", "GET", f"/jobs/{self._accepted[-1]}")
            await asyncio.sleep(PACE_S)

    async def follow(self) -> None:
        """Follow one job after the other, each from its beginning to its end or the stream's."""
        while not self.over.is_set():
            if self._accepted:
                run_id = self._accepted[-1]
                try:
                    path = f"{self._url}/jobs/{run_id}/events"
                    async with self._http.get(path) as answer:
                        told = await answer.text()
                        error = None if answer.ok else told
                        self._note("follow", answer.status, run_id, error=error)
                except (aiohttp.ClientError, TimeoutError) as error:
                    self._note("follow", None, run_id, error=repr(error))
            await asyncio.sleep(PACE_S)

    async def until_all_ended(self) -> None:
        """Ask for every job that was accepted until it has ended, and note how."""
        give_up = time.monotonic() + _ALL_ENDED_S
        for run_id in self._accepted:
            while time.monotonic() < give_up:
                status, record = await self._ask("look", "GET", f"/jobs/{run_id}")
                if status == 200 and record["finished_at"]:
                    self._note(
                        "ended", status, run_id, job=record["status"], attempt=record["attempt"]
                    )
                    break
                await asyncio.sleep(0.1)
            else:
                self._note("ended", None, run_id, job="lost")

    async def _ask(self, did: str, method: str, path: str, **terms: Any) -> tuple[int | None, Any]:
        try:
            async with self._http.request(method, self._url + path, **terms) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self._note(did, None, error=repr(error))
            return None, None
        said: Any = {}
        with contextlib.suppress(ValueError):
            said = json.loads(text)
        error = None if answer.ok else said.get("type", text[:200])
        self._note(did, answer.status, said.get("run_id"), error=error)
        return answer.status, said

    def _note(self, did: str, status: int | None, run_id: str | None = None, **more: Any) -> None:
        line = {"at": time.time(), "did": did, "status": status, "run_id": run_id, **more}
        self._log.write(json.dumps(line) + "\n")


async def main(url: str, log: Path, token: str) -> None:
    """Call until SIGTERM."""
    headers = {"Authorization": f"Bearer {token}"}
    with log.open("a", buffering=1) as lines:
        async with aiohttp.ClientSession(headers=headers, timeout=_DEAD_END) as http:
            caller = Caller(url, lines, http)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caller.over.set)
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(caller.submit())
                    group.create_task(caller.read())
                    group.create_task(caller.follow())
            await caller.until_all_ended()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
