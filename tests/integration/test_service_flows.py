"""`POST /optimize` for networks, and the forms of their results: JSON, CSV, GraphML, pictures."""

import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree

import msgspec
import networkx as nx
import pytest

from control import graph_migrations
from control.networks.loading import NewArc, NewNode
from control.networks.network import Network
from control.stores.graph import Graph
from tests.conftest import LiveStores
from tests.flows import network, solved
from tests.networks import store
from tests.serving import Served, problem, served
from worker.jobs.job import JobState
from worker.optimize.flow_result import FlowSolution, result
from worker.optimize.places import places

pytestmark = pytest.mark.graph

RUN = {"problem": {"format": "network", "network": "lines"}}
AWKWARD = 'b & <c> "d"\x01->#'


@pytest.fixture
async def api(stores: LiveStores, redis: Any) -> AsyncIterator[Served]:
    async with served(stores.config) as running:
        yield running


@pytest.fixture
async def lines(stores: LiveStores) -> str:
    """A network that is stored."""
    async with Graph(stores.config.graph) as graph:
        await graph_migrations.migrate(graph)
        await store(graph, "lines", [NewNode("a", 1), NewNode("b", -1)],
                    [NewArc("a", "b", 1, None, 0)])  # fmt: skip
    return "lines"


def answered(*, draw: bool = True) -> FlowSolution:
    """What a job over a network with awkward names returns."""
    made = network(
        {"a": 3, AWKWARD: -3}, [("a", AWKWARD, 2, 2), ("a", AWKWARD, 5), (AWKWARD, AWKWARD, 1)]
    )
    flow = solved(made)
    used = Network(
        name="lines & more", version="v", nodes=2, edges=3, total_supply=3, total_demand=3,
        created_at="",
    )  # fmt: skip
    at = places(made, [{}, {}], flow.values) if draw else None
    return result(used, made, flow, solver="HiGHS", places=at)


async def finished(api: Served, answer: Any) -> str:
    """A job that returned ``answer``; its run id."""
    run_id = await api.put(payload=msgspec.json.encode(RUN))
    claim = await api.claim()
    await api.finish(claim, JobState.COMPLETED, result=msgspec.json.encode(answer))
    return run_id


async def got(api: Served, run_id: str, media: str, family: str = "optimize") -> bytes:
    async with api.http.get(f"/{family}/{run_id}/result", headers={"Accept": media}) as response:
        body = await response.read()
        assert response.status == 200, body
        assert response.content_type == media
        assert response.headers["Vary"] == "Accept"
        return body


async def test_a_network_is_submitted_by_its_name(api: Served, lines: str) -> None:
    asked = {**RUN, "write_back": True, "options": {"time_limit_s": 5}}
    async with api.http.post("/optimize", json=asked) as response:
        assert response.status == 202
        run_id = (await response.json())["run_id"]
    claim = await api.claim()
    assert claim.run_id == run_id
    payload = json.loads(claim.payload)
    assert payload["problem"] == RUN["problem"]
    assert payload["write_back"] is True


async def test_an_unknown_network_is_refused(api: Served, lines: str) -> None:
    asked = {"problem": {"format": "network", "network": "nowhere"}}
    async with api.http.post("/optimize", json=asked) as response:
        document = await problem(response)
    assert (response.status, document["field"]) == (422, "problem.network")
    assert document["detail"] == "problem.network: no network nowhere is stored"


async def test_a_graph_that_is_away_refuses_nothing(
    stores: LiveStores, api: Served, lines: str
) -> None:
    stores.freeze("graph")
    try:
        async with api.http.post("/optimize", json=RUN) as response:
            assert response.status == 202
    finally:
        stores.thaw("graph")


async def test_only_a_flow_is_written_back(api: Served) -> None:
    asked = {"problem": {"format": "lp", "content": "min\n x\nend\n"}, "write_back": True}
    async with api.http.post("/optimize", json=asked) as response:
        assert (await problem(response))["field"] == "write_back"


async def test_a_flow_as_json_and_as_csv(api: Served) -> None:
    run_id = await finished(api, answered())
    document = json.loads(await got(api, run_id, "application/json"))
    assert next(iter(document)) == "run_id"
    assert document["objective"] == 9
    assert document["network"]["name"] == "lines & more"
    rows = list(csv.DictReader(io.StringIO((await got(api, run_id, "text/csv")).decode())))
    assert [(row["source"], row["target"], row["value"]) for row in rows] == [
        ("a", AWKWARD, "2.0"), ("a", AWKWARD, "1.0"), (AWKWARD, AWKWARD, "0.0"),
    ]  # fmt: skip
    assert [row["column"] for row in rows] == list(document["solution"])
    assert [row["capacity"] for row in rows] == ["2.0", "", ""]
    assert list(rows[0]) == [
        "column", "value", "source", "target", "cost", "lower", "capacity",
    ]  # fmt: skip


async def test_a_flow_as_graphml_that_others_read(api: Served) -> None:
    run_id = await finished(api, answered())
    body = await got(api, run_id, "application/graphml+xml", family="jobs")
    graph = nx.parse_graphml(body.decode(), force_multigraph=True)
    shown = AWKWARD.replace("\x01", "\ufffd")
    assert graph.nodes["a"]["supply"] == 3
    assert set(graph.nodes) == {"a", shown}
    flows = sorted(data["flow"] for _, _, data in graph.edges(data=True))
    assert flows == [0, 1, 2]
    assert {data.get("capacity") for _, _, data in graph.edges(data=True)} == {2.0, None}


async def test_a_picture_of_a_flow(api: Served) -> None:
    run_id = await finished(api, answered())
    picture = ElementTree.fromstring(await got(api, run_id, "image/svg+xml"))
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"
    told = ["".join(each.itertext()) for each in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert told[0] == "lines & more: optimal, cost 9"
    assert any(text.endswith(": 2 of 2, cost 2 each") for text in told)
    async with api.http.get(
        f"/optimize/{run_id}/result", headers={"Accept": "image/avif,image/*,*/*;q=0.8"}
    ) as response:
        assert response.content_type == "image/svg+xml"
        assert "script" not in response.headers["Content-Security-Policy"]


async def test_what_cannot_be_drawn_says_what_there_is(api: Served) -> None:
    run_id = await finished(api, answered(draw=False))
    accept = {"Accept": "image/svg+xml"}
    async with api.http.get(f"/optimize/{run_id}/result", headers=accept) as response:
        document = await problem(response)
    assert response.status == 406
    assert document["available"] == ["application/json", "text/csv", "application/graphml+xml"]
    run_id = await finished(api, {"outcome": "optimal", "solution": {"x": 1.0}})
    async with api.http.get(f"/optimize/{run_id}/result", headers=accept) as response:
        assert (await problem(response))["available"] == ["application/json", "text/csv"]
    accept = {"Accept": "image/svg+xml, text/csv;q=0.5"}
    async with api.http.get(f"/optimize/{run_id}/result", headers=accept) as response:
        assert response.content_type == "text/csv"
