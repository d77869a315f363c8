"""`make bench-fleet`: what a fleet costs and how far it goes, into deploy/SCALE.md.

Real stores, services and workers of its own on loopback; hundreds of light replicas (the real
subscription, flags and lease of an instance, without the rest of it) in two processes.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from control.lifespan import new_loop
from deploy.embedded.folder import DataFolder
from tests.benchmarks.fleet import page
from tests.benchmarks.fleet.model import Size
from tests.benchmarks.fleet.page import Results
from tests.benchmarks.fleet.turns import CHANGES, JOBS, SIZES, Turns
from tests.benchmarks.peers import machine
from tests.benchmarks.peers.marks import NoSection
from tests.conftest import LiveStores

PARTS = ("idle", "changes", "jobs")
IDLE = (Size(1, 1), Size(3, 1), Size(1, 3), Size(4, 4), Size(1, 1, 100), Size(1, 1, 400))
WORKERS = (1, 2, 4)


def main() -> None:
    """Measure, print, write."""
    asked = _parsed(sys.argv[1:])
    kept: Results = json.loads(page.KEPT.read_text()) if page.KEPT.exists() else {}
    if asked.again:
        found = kept
    else:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            found = runner.run(_measure(asked))
    told = kept | found
    if asked.json:
        print(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print(page.section(found))
    if not asked.no_page:
        try:
            page.write(told)
        except NoSection as error:
            sys.exit(str(error))


async def _measure(asked: argparse.Namespace) -> Results:
    found: Results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = DataFolder(Path(name) / "stores")
        stores = LiveStores(folder)
        try:
            await stores.start_all()
            turns = Turns(stores, Path(name))
            runs: dict[str, tuple[Sequence[Any], Callable[[Any], Awaitable[Any]]]] = {
                "idle": (IDLE, turns.idle),
                "changes": (asked.sizes, lambda size: turns.changes(size, asked.changes)),
                "jobs": (asked.workers, lambda workers: turns.jobs(workers, asked.jobs)),
            }
            for part in asked.only or PARTS:
                about, (sizes, run) = machine.about(), runs[part]
                points = []
                for size in sizes:
                    print(f"{part}: {size} ...", file=sys.stderr, flush=True)
                    points.append(await run(size))
                found[part] = {"about": about, "points": points}
        finally:
            await stores.close()
            folder.close()
    return found


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-fleet", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=PARTS, help="this part; the others stay as they are"
    )
    parser.add_argument(
        "--sizes", type=_sizes, default=SIZES, metavar="N,N",
        help="even numbers of replicas (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--changes", type=int, default=CHANGES, help="for each of these")
    parser.add_argument(
        "--workers", type=_sizes, default=WORKERS, metavar="N,N", help="numbers of workers"
    )
    parser.add_argument("--jobs", type=int, default=JOBS, help="for each of these")
    parser.add_argument(
        "--again", action="store_true", help="measure nothing: show what was, by today's model"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--no-page", action="store_true", help="leave page and results alone")
    return parser.parse_args(arguments)


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    main()
