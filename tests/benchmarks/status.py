"""How fast the status page is, and how much it weighs: `python -m tests.benchmarks.status`.

A stack on this machine, one client on one connection, so that what is measured is an answer and not
a queue; the page in full, compressed, and as 304.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from tests.stack import Stack

ASKED = 2_000


async def measure(http: aiohttp.ClientSession, path: str, **headers: str) -> str:
    """One line: how long an answer takes, and its bytes on the wire."""
    took_ms, size = [], 0
    for _ in range(ASKED):
        began = time.perf_counter()
        async with http.get(path, headers=headers) as response:
            size = len(await response.read())
        took_ms.append((time.perf_counter() - began) * 1000)
        if "If-None-Match" in headers:  # a stack that has just begun has news at times
            headers["If-None-Match"] = response.headers["ETag"]
    hundredths = statistics.quantiles(took_ms, n=100)
    known = " (304)" if "If-None-Match" in headers else ""
    return (
        f"{path + known:<24} p50 {hundredths[49]:6.2f} ms   p99 {hundredths[98]:6.2f} ms   "
        f"{size:>7,} bytes"
    )


async def main() -> None:
    """Measure, and say it."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Stack(Path(folder) / "data") as stack,
            aiohttp.ClientSession(stack.api, auto_decompress=False) as http,
        ):
            zipped = {"Accept-Encoding": "gzip"}
            async with http.get("/status", headers=zipped) as response:
                tag = response.headers["ETag"]
            print(await measure(http, "/status", **zipped))
            print(await measure(http, "/status", **zipped, **{"If-None-Match": tag}))
            for path in ("/api/v2/summary.json", "/api/status/rss", "/badge.svg"):
                print(await measure(http, path, **zipped))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
