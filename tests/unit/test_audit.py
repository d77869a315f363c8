"""The dependency audit does not take silence for a clean bill of health."""

import pytest

from tests.audit import NONE_KNOWN, NOT_ASKED, VULNERABLE, verdict

GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "gone", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("packages", "status", "said"),
    [
        ([GOOD, GOOD], NONE_KNOWN, "2 packages"),
        ([GOOD, BAD], VULNERABLE, "bad 2: CVE-1, mended in 3"),
        ([BAD, SKIPPED], VULNERABLE, "CVE-1"),
        ([GOOD, SKIPPED], NOT_ASKED, "1 of 2"),
        ([SKIPPED], NOT_ASKED, "0 of 1"),
        ([], NOT_ASKED, "0 of 0"),
    ],
)
def test_only_what_was_looked_up_counts(packages: list, status: int, said: str) -> None:
    found, lines = verdict({"dependencies": packages, "fixes": []})
    assert found == status
    assert said in lines[0]
