"""Look up known vulnerabilities of what the locks name: `python -m tests.audit` (needs uv).

Exit status 0: every package was looked up and none is known to be vulnerable; 1: some are; 2: the
vulnerability service could not be asked, or not about every package, so nothing is proved.
pip-audit itself calls that a success, which is why its report is read here.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = sorted(Path(__file__).parents[1].joinpath("requirements").glob("*.txt"))
TOOL = ("uvx", "--from", "pip-audit>=2.10,<3", "pip-audit")
SERVICES = ("pypi", "osv")
"""Asked in turn, until one knows every package."""

NONE_KNOWN, VULNERABLE, NOT_ASKED = 0, 1, 2


def verdict(report: dict[str, Any]) -> tuple[int, list[str]]:
    """The exit status that a report of pip-audit deserves, and lines that say why."""
    packages = report.get("dependencies", [])
    found = [
        f"{each['name']} {each['version']}: {flaw['id']}, mended in "
        f"{', '.join(flaw['fix_versions']) or 'no version yet'}"
        for each in packages
        for flaw in each.get("vulns", ())
    ]
    if found:
        return VULNERABLE, found
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    if skipped or not packages:
        return NOT_ASKED, [f"{len(packages) - len(skipped)} of {len(packages)} packages looked up"]
    return NONE_KNOWN, [f"{len(packages)} packages looked up, none is known to be vulnerable"]


def ask(service: str) -> tuple[int, list[str]]:
    """Ask one service about every lock."""
    locks = [part for lock in LOCKS for part in ("-r", str(lock))]
    asked = subprocess.run(
        [*TOOL, *locks, "--require-hashes", "--disable-pip", "--format", "json",
         "--vulnerability-service", service, "--progress-spinner", "off", "--timeout", "10"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        return verdict(json.loads(asked.stdout))
    except ValueError:
        return NOT_ASKED, (asked.stderr.strip().splitlines() or ["no answer"])[-1:]


def main() -> int:
    """The first service's verdict that proves something; else that none did."""
    for service in SERVICES:
        status, lines = ask(service)
        for line in lines:
            print(f"{service}: {line[:300]}")
        if status != NOT_ASKED:
            return status
    print("No vulnerability service could be asked about every package: nothing is proved.")
    return NOT_ASKED


if __name__ == "__main__":
    sys.exit(main())
