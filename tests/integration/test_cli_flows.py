"""`drawbridge optimize --network`, the worker's part done by hand."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from control import graph_migrations
from control.networks.loading import NewArc, NewNode
from control.stores.graph import Graph
from tests.conftest import LiveStores
from tests.integration.test_cli_optimize import claimed, drawbridge, ended, run
from tests.networks import store
from tests.serving import Served, served
from worker.jobs.job import JobState

pytestmark = pytest.mark.graph

FLOW = {
    "network": {"name": "tracks", "version": "v", "nodes": 2, "edges": 1},
    "outcome": "optimal", "objective": 9.0, "bound": 9.0, "gap": 0.0,
    "solution": {"a->b": 3.0}, "solver": "HiGHS", "solve_s": 0.01, "written_back": True,
    "nodes": {"a": 3.0, "b": -3.0}, "arcs": {"cost": [3.0], "lower": [0.0], "capacity": [None]},
    "places": {"a": [0, 0], "b": [1, 0]},
}  # fmt: skip
WHY = {"reason": "cut", "message": "the node b must take in 1, but no arc enters it"}


@pytest.fixture
async def api(stores: LiveStores, redis: Any) -> AsyncIterator[Served]:
    async with Graph(stores.config.graph) as graph:
        await graph_migrations.migrate(graph)
        await store(graph, "tracks", [NewNode("a", 3), NewNode("b", -3)],
                    [NewArc("a", "b", 3, None, 0)])  # fmt: skip
    async with served(stores.config) as running:
        yield running


async def test_a_network_is_solved_and_its_picture_saved(api: Served, tmp_path: Path) -> None:
    picture = tmp_path / "flow.svg"
    arguments = ("optimize", "--network", "tracks", "--write-back", "--out", picture,
                 "--time-limit", 5, "--priority", "9")  # fmt: skip
    async with drawbridge(api.url, *arguments) as process:
        claim = await claimed(api)
        payload = json.loads(claim.payload)
        assert payload["problem"] == {"format": "network", "network": "tracks"}
        assert payload["write_back"] is True
        assert payload["options"]["time_limit_s"] == 5
        assert claim.spec.priority == "high"
        await api.finish(claim, JobState.COMPLETED, result=msgspec.json.encode(FLOW))
        status, out, _ = await ended(process)
    assert (status, out) == (
        0, "optimal · objective 9 · gap 0.00% · solved in 0.01 s · written back\n",
    )  # fmt: skip
    assert picture.read_text().startswith("<svg")


async def test_why_there_is_no_flow_is_told(api: Served) -> None:
    async with drawbridge(api.url, "optimize", "--network", "tracks", "--follow") as process:
        claim = await claimed(api)
        answer = {**FLOW, "outcome": "infeasible", "objective": None, "bound": None, "gap": None,
                  "solution": {}, "why": WHY, "written_back": False}  # fmt: skip
        await api.finish(claim, JobState.COMPLETED, result=msgspec.json.encode(answer))
        status, out, _ = await ended(process)
    assert status == 0
    assert out == f"infeasible · solved in 0.01 s · {WHY['message']}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "give a FILE or --network"),
        ((__file__.replace(".py", ".mps"), "--network", "tracks"), 2, "does not exist"),
        (("--network", "nowhere"), 1, "no network nowhere is stored"),
    ],
)
async def test_what_is_refused(
    api: Served, arguments: tuple[str, ...], status: int, message: str
) -> None:
    refused, _, err = await run(api, "optimize", *arguments)
    assert refused == status
    assert message in err
