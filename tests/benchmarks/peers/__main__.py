"""Measures Drawbridge's job engine beside other job engines on Redis, all in one run.

Each engine runs in a virtual environment of its own with pinned versions, tuned as well as its
documentation tells, one worker process each; Drawbridge runs with its default settings. In each
round every engine has one turn, in random order: a fresh embedded Redis with an append-only file
(synced each second), jobs submitted one by one and in bulk, then a worker started and the time
taken from its first to its last stored result, as a client sees it; then jobs that meet an idle
worker, and a while of nothing at all. The jobs do nothing and return a number, which is stored
with their status. The medians of the rounds count.

Writes results.md (tables), results.svg (a chart) and results.json (every figure of every turn).
It asserts nothing. An engine that fails or hangs is reported as such and stops nobody.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.peers import report
from tests.benchmarks.peers.benchmark import FULL, QUICK, measured, say
from tests.benchmarks.peers.subjects import CHECKOUT, PEERS, Subject, drawbridge


def main() -> None:
    """Measure, write the files, print the table."""
    arguments = _parser().parse_args()
    checkouts = [path.resolve() for path in arguments.checkout or [CHECKOUT]]
    own = [drawbridge(path, alone=len(checkouts) == 1) for path in checkouts]
    size = QUICK if arguments.quick else FULL
    if arguments.rounds:
        size = replace(size, rounds=arguments.rounds)
    cache = arguments.cache.resolve()
    done = measured([*own, *_chosen(arguments.only)], size, cache)
    folder = (arguments.out or cache / "results").resolve()
    text = report.write(done, folder, quick=arguments.quick)
    print(text)
    say(f"written to {folder}")


def _chosen(names: str | None) -> list[Subject]:
    if names is None:
        return list(PEERS)
    wanted = {name for name in names.split(",") if name}
    if unknown := wanted - {peer.name for peer in PEERS}:
        raise SystemExit(f"--only: no engine is named {', '.join(sorted(unknown))}")
    return [peer for peer in PEERS if peer.name in wanted]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one short turn each in at most 3 minutes, to see that it works (default: five rounds "
        "in at most 15 minutes; the first run installs the engines before)",
    )
    parser.add_argument(
        "--checkout",
        type=Path,
        action="append",
        metavar="PATH",
        help="a checkout of Drawbridge to measure, with its .venv; may be given again to compare "
        "several (default: this one)",
    )
    parser.add_argument(
        "--only",
        metavar="NAMES",
        help="engines beside Drawbridge, with commas; empty for none (default: "
        + ",".join(peer.name for peer in PEERS)
        + ")",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="another number of rounds")
    parser.add_argument(
        "--cache",
        type=Path,
        default=CHECKOUT / ".bench",
        metavar="PATH",
        help="folder of the environments and of the logs (default: .bench in the checkout)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder to write to (default: results in the cache folder)",
    )
    return parser  # fmt: skip


if __name__ == "__main__":
    main()
