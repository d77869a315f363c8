"""Measures Drawbridge's job engine beside other job engines on Redis, all in one run.

Each engine runs in a virtual environment of its own with pinned versions, tuned as well as its
documentation tells, one worker process each; Drawbridge runs with its default settings. In each
round every engine has one turn, in random order: a fresh embedded Redis with an append-only file
(synced each second), jobs submitted one by one and in bulk, then a worker started and the time
taken from its first to its last stored result, as a client sees it; then jobs that meet an idle
worker, and a while of nothing at all. The jobs do nothing and return a number, which is stored
with their status. The medians of the rounds count.

Writes results.md (tables), results.svg (a chart) and results.json (every figure of every turn); a
full run of all engines also replaces the figures in README.md, with the chart and what they were
made from in tests/benchmarks/results. It asserts nothing. An engine that fails or hangs is reported
as such and stops nobody.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.peers import readme, report
from tests.benchmarks.peers.benchmark import FULL, QUICK, measured, say
from tests.benchmarks.peers.marks import NoSection
from tests.benchmarks.peers.subjects import CHECKOUT, PEERS, Subject, drawbridge


def main() -> None:
    """Measure, write the files, print the table."""
    arguments = _parser().parse_args()
    folder = (arguments.out or arguments.cache / "results").resolve()
    told = _stored(arguments.shown) if arguments.shown else _measured(arguments)
    print(report.write(told, folder))
    say(f"written to {folder}")
    if _is_for_readme(arguments):
        try:
            readme.write(told)
        except NoSection as error:
            raise SystemExit(str(error)) from None
        say(f"written to {readme.README}, {readme.KEPT}")


def _measured(arguments: argparse.Namespace) -> report.Results:
    checkouts = [path.resolve() for path in arguments.checkout or [CHECKOUT]]
    own = [drawbridge(path, alone=len(checkouts) == 1) for path in checkouts]
    size = QUICK if arguments.quick else FULL
    if arguments.rounds:
        size = replace(size, rounds=arguments.rounds)
    done = measured([*own, *_chosen(arguments.only)], size, arguments.cache.resolve())
    return report.results(done, quick=arguments.quick)


def _stored(path: Path) -> report.Results:
    """The results of an earlier run."""
    try:
        told: report.Results = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"--from: {error}") from None
    return told


def _is_for_readme(arguments: argparse.Namespace) -> bool:
    """Whether to write into the README: if asked, or after a full run of all engines."""
    if arguments.readme is not None:
        return bool(arguments.readme)
    some = arguments.quick or arguments.rounds or arguments.only is not None or arguments.checkout
    return not some


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
    parser.add_argument(
        "--readme",
        action=argparse.BooleanOptionalAction,
        help="whether to replace the figures in README.md (default: after a full run of all "
        "engines on this checkout)",
    )
    parser.add_argument(
        "--from",
        dest="shown",
        type=Path,
        metavar="PATH",
        help="measure nothing; write what an earlier run's results.json says",
    )
    return parser  # fmt: skip


if __name__ == "__main__":
    main()
