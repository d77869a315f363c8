"""The runbook: a section for each alert, commands and files that exist."""

import re
from pathlib import Path

import yaml

from control.cli import COMMANDS

DEPLOY = Path(__file__).parents[2] / "deploy"
TEXT = (DEPLOY / "RUNBOOK.md").read_text()


def test_each_alert_has_its_section_with_what_to_look_at_and_what_to_do() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    sections = dict(
        re.findall(r"^### (Drawbridge\w+)\n(.*?)(?=^##)", TEXT, re.DOTALL | re.MULTILINE)
    )
    assert sections.keys() == alerts
    assert all("- Look: " in text and "- Do: " in text for text in sections.values())


def test_its_commands_exist() -> None:
    named = set(re.findall(r"`drawbridge ([a-z]+)", TEXT))
    assert named <= COMMANDS.keys()


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (DEPLOY / target).exists(), target
    anchors = {title.lower() for title in re.findall(r"^#+ (\w+)$", TEXT, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_the_metrics_that_it_names_are_served() -> None:
    rooms = (DEPLOY.parent / room for room in ("control", "worker", "service"))
    source = "".join(path.read_text() for room in rooms for path in room.rglob("*.py"))
    named = set(re.findall(r"drawbridge_\w+", TEXT))
    assert named
    assert [name for name in named if f'"{name}"' not in source] == []
