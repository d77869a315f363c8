"""Real clients of Statuspage read the page: `python -m tests.statuspage_clients` (needs uv, npm).

A stack is started, an incident opened and a window planned over its API. Then
statuspage-prometheus-exporter (PyPI) and statuspage.io (npm) are fetched and run against it as they
are; what they found is compared with what was entered. Ends with 1 where it differs.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from tests.stack import ROOT, Stack

EXPORTER = "statuspage-prometheus-exporter>=2.6,<3"
NODE_CLIENT = "statuspage.io@3"
MODULES = ROOT / ".bench" / "statuspage"
TITLE, PLAN = 'Slow "answers" & <more>', "Larger disks"
ASK = """
const { Statuspage } = require(process.argv[1] + "/node_modules/statuspage.io");
const client = new Statuspage("drawbridge");
client.apiClient.defaults.baseURL = process.argv[2];
const { api } = client;
(async () => console.log(JSON.stringify({
  status: await api.getStatus(), summary: await api.getSummary(),
  components: await api.getComponents(), incidents: await api.incidents.getAll(),
  unresolved: await api.incidents.getUnresolved(),
  maintenances: await api.scheduledMaintenances.getAll(),
  upcoming: await api.scheduledMaintenances.getUpcoming(),
})))();
"""
"""Written for this; the client itself is used as it is published."""


async def enter(stack: Stack) -> None:
    """Open an incident, plan a window."""
    start = datetime.now(UTC) + timedelta(hours=5)
    token = {"Authorization": f"Bearer {stack.line['admin_token']}"}
    posts: dict[str, dict[str, Any]] = {
        "incidents/create": {"title": TITLE, "description": "We are looking.",
                             "severity": "critical", "affected_components": ["api"]},
        "maintenance": {"title": PLAN, "description": "", "affected_components": ["database"],
                        "scheduled_start": start.isoformat(),
                        "scheduled_end": (start + timedelta(hours=1)).isoformat()},
    }  # fmt: skip
    async with aiohttp.ClientSession(stack.api, headers=token) as http:
        for path, body in posts.items():
            async with http.post(f"/api/status/{path}", json=body) as response:
                assert response.status == 201, await response.text()
        for _ in range(100):
            async with http.get("/api/v2/summary.json") as response:
                told = await response.json()
            if told["incidents"] and told["scheduled_maintenances"]:
                return
            await asyncio.sleep(0.1)
    raise AssertionError("the page does not show what was entered")


def exported(url: str, folder: Path) -> list[str]:
    """What the exporter makes of the page, and what of it is not so."""
    services = folder / "services.json"
    services.write_text(json.dumps({"here": {"url": f"{url}/api/v2/summary.json", "name": "Here"}}))
    metrics = folder / "metrics.prom"
    environ = {
        **os.environ, "SERVICES_JSON_PATH": str(services), "METRICS_TEXTFILE_PATH": str(metrics),
        "RUN_MODE": "once",
    }  # fmt: skip
    command = ("uvx", "--from", EXPORTER, "statuspage-prometheus-exporter")
    subprocess.run(command, env=environ, cwd=folder, check=True)
    lines = metrics.read_text().splitlines()

    def value(name: str, *labels: str) -> list[float]:
        return [
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith(name + "{") and all(label in line for label in labels)
        ]

    title = TITLE.replace("\\", "\\\\").replace('"', '\\"')
    expected = {
        "an incident": (value("statuspage_service_status"), [0.0]),
        "its title": (value("statuspage_incident_info", title, 'impact="critical"'), [1.0]),
        "the window": (len(value("statuspage_maintenance_info", PLAN)), 1),
        "the API is down": (value("statuspage_component_status", 'component_name="API"'), [0.0]),
        "all was read": (value("statuspage_probe_check"), [1.0]),
    }
    return [f"exporter, {what}: {found}" for what, (found, meant) in expected.items()
            if found != meant]  # fmt: skip


def asked(url: str) -> list[str]:
    """What the client for Node is told, and what of it is not so."""
    MODULES.mkdir(parents=True, exist_ok=True)
    install = ("npm", "install", "--silent", "--no-save", "--prefix", str(MODULES), NODE_CLIENT)
    subprocess.run(install, check=True)
    done = subprocess.run(
        ("node", "-e", ASK, str(MODULES), url), check=True, capture_output=True, text=True
    )
    told = json.loads(done.stdout)

    def names(part: str, members: str) -> list[str]:
        return [each["name"] for each in told[part][members]]

    windows = "scheduled_maintenances"
    expected = {
        "status": (told["status"]["status"],
                   {"indicator": "critical", "description": "Major Service Outage"}),
        "summary": (names("summary", "incidents") + names("summary", windows), [TITLE, PLAN]),
        "components": (names("components", "components")[0], "API"),
        "incidents": (names("incidents", "incidents"), [TITLE]),
        "unresolved": (names("unresolved", "incidents"), [TITLE]),
        "maintenances": (names("maintenances", windows), [PLAN]),
        "upcoming": (names("upcoming", windows), [PLAN]),
    }  # fmt: skip
    return [f"statuspage.io, {what}: {found}" for what, (found, meant) in expected.items()
            if found != meant]  # fmt: skip


async def main() -> int:
    """Start everything and have the clients read; the exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Stack(folder / "data") as stack:
            await enter(stack)
            wrong = await asyncio.to_thread(exported, stack.api, folder)
            wrong += await asyncio.to_thread(asked, stack.api)
    print("\n".join(wrong) or "both clients read what was entered")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
