"""The figures in the README are those of the results that are committed."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.peers import readme, report
from tests.benchmarks.peers.marks import NoSection

MARKED = f"# Title\n\n{readme.MARKS.begin}\n\nof old\n\n{readme.MARKS.end}\n\nmore\n"


def test_the_readme_shows_what_its_results_say() -> None:
    told = json.loads((readme.KEPT / "jobs.json").read_text())
    text = readme.README.read_text()
    chart = readme.KEPT / "jobs.svg"
    shown = readme.section(told, chart.relative_to(readme.README.parent))
    assert text == readme.MARKS.replaced(text, shown), "run make bench-jobs ARGS=--from=…"
    assert chart.read_text() == report.drawing(told)
    assert {row["title"] for row in told["summary"]} >= {"Drawbridge", "arq", "SAQ", "taskiq"}


def test_only_what_is_between_the_marks_is_replaced(tmp_path: Path) -> None:
    told = json.loads((readme.KEPT / "jobs.json").read_text())
    page = tmp_path / "README.md"
    page.write_text(MARKED)
    for _ in range(2):
        readme.write(told | {"engines": ["bulky"]}, page, tmp_path / "kept")
        text = page.read_text()
        assert text.startswith("# Title\n")
        assert text.endswith(f"{readme.MARKS.end}\n\nmore\n")
        assert "of old" not in text
        assert "](kept/jobs.svg)" in text
    assert "bulky" not in (tmp_path / "kept" / "jobs.json").read_text()


@pytest.mark.parametrize("text", ["none", f"{readme.MARKS.end}{readme.MARKS.begin}", MARKED * 2])
def test_a_readme_without_the_marks_stays_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "README.md"
    page.write_text(text)
    told = json.loads((readme.KEPT / "jobs.json").read_text())
    with pytest.raises(NoSection):
        readme.write(told, page, tmp_path)
    assert page.read_text() == text
    assert list(tmp_path.iterdir()) == [page]
