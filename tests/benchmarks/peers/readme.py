"""The figures in the README: between two marks, made anew from results that are committed beside
the benchmarks, with the chart."""

import json
from pathlib import Path

from tests.benchmarks.peers import report
from tests.benchmarks.peers.marks import Marks
from tests.benchmarks.peers.report import Results
from tests.benchmarks.peers.subjects import CHECKOUT

README = CHECKOUT / "README.md"
KEPT = CHECKOUT / "tests" / "benchmarks" / "results"
"""Where the results are that the README shows: jobs.json and jobs.svg."""

MARKS = Marks("make bench-jobs")


def write(told: Results, readme: Path = README, kept: Path = KEPT) -> None:
    """Show ``told`` in ``readme``, and keep in ``kept`` what that was made from.

    Raises :class:`NoSection`, and then nothing is written.
    """
    shown = {name: value for name, value in told.items() if name != "engines"}
    chart = kept / "jobs.svg"
    text = MARKS.replaced(readme.read_text(), section(shown, chart.relative_to(readme.parent)))
    kept.mkdir(parents=True, exist_ok=True)
    chart.write_text(report.drawing(shown))
    (kept / "jobs.json").write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n")
    readme.write_text(text)


def section(told: Results, chart: Path) -> str:
    """What the README shows: the chart, which is at ``chart``, and all that it was made from."""
    parts = [
        f"![Drawbridge beside other job engines on Redis]({chart.as_posix()})",
        report.table(told),
        *report.basis(told),
        "<details><summary>Versions and settings</summary>",
        report.settings(told),
        "</details>",
        *report.remarks(told),
    ]
    return "\n\n".join(parts)
