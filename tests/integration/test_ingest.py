"""Networks by way of the API: uploads, the job that stores them, and what is told of both."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control.clock import SystemClock
from control.flags.document import INGESTION
from control.ids import new_id
from control.networks.reading import NetworkReader
from control.networks.uploads import Uploads
from control.stores.postgres import Database
from tests.conftest import LiveStores
from tests.ingesting import House, form, house_of
from tests.networks import read
from tests.serving import problem
from tests.stack import clean_environment, drawbridge
from worker.ingest.kind import sweep
from worker.ingest.lamp import Lamp
from worker.ingest.stores import IngestStores
from worker.testing import KindRun, run_kind

MOST = 256 << 10
NODES = "id,supply,country\na,4,DE\nb,0,\nc,-4,FR\n"
EDGES = "source,target,cost,capacity,lower\na,b,2,4,1\nb,c,1,,0\na,c,9,10,0\n"
pytestmark = pytest.mark.graph
NDJSON = {"Content-Type": "application/x-ndjson"}


def packed(data: bytes) -> bytes:
    """``data`` in gzip, without the time: cases of a test are named after what they are given."""
    return gzip.compress(data, mtime=0)


@pytest.fixture(scope="module")
async def house(stores: LiveStores) -> AsyncIterator[House]:
    async with house_of(stores, max_upload=MOST) as opened, opened.worker() as worker:
        await worker.logged("working")
        yield opened


async def test_tables_become_a_network_and_the_flag_is_on_meanwhile(house: House) -> None:
    before = await house.flag_changes()
    receipt = await house.ingest(form(NODES, EDGES), name="europe")
    assert receipt["status"] == "queued"
    result = await house.result(receipt)
    assert result == {
        "run_id": receipt["run_id"], "outcome": "stored", "network": "europe",
        "version": receipt["run_id"], "nodes": 3, "edges": 3, "total_supply": 4.0,
        "total_demand": 4.0,
    }  # fmt: skip
    assert (await house.flag_changes())[len(before) :] == [True, False]
    shown = await house.get("/networks/europe")
    assert shown in (await house.get("/networks"))["networks"]
    assert (shown["nodes"], shown["edges"], shown["total_supply"]) == (3, 3, 4.0)
    assert (shown["format"], shown["flow"]) == ("csv", None)
    _, nodes, arcs = await read(house.graph, "europe")
    assert nodes["a"].attributes == {"country": "DE"}
    assert arcs == [
        ("a", "b", 2.0, 4.0, 1.0), ("b", "c", 1.0, float("inf"), 0.0), ("a", "c", 9.0, 10.0, 0.0)
    ]  # fmt: skip
    async with Database(house.config.postgres) as database:
        assert await database.fetch("SELECT 1 FROM drawbridge.upload_pieces") == []


async def test_the_same_files_again_change_nothing_and_others_replace_it(house: House) -> None:
    first = await house.result(await house.ingest(form(NODES, EDGES), name="same"))
    again = await house.result(await house.ingest(form(NODES, EDGES, gz=True), name="same"))
    assert (again["outcome"], again["version"]) == ("unchanged", first["version"])
    other = await house.result(await house.ingest(form(NODES, EDGES + "c,a,1,1,0\n"), name="same"))
    assert (other["outcome"], other["edges"]) == ("stored", 4)
    assert (await house.get("/networks/same"))["version"] == other["version"] != first["version"]


async def test_lines_of_json_compressed_with_edges_first(house: House) -> None:
    text = "\n".join([
        json.dumps({"type": "edge", "source": "x", "target": "y", "cost": 1}),
        json.dumps({"type": "node", "id": "x", "supply": 1}),
        json.dumps({"type": "node", "id": "y", "supply": -1}),
    ])  # fmt: skip
    headers = {**NDJSON, "Content-Encoding": "gzip"}
    receipt = await house.ingest(packed(text.encode()), headers, name="lines")
    assert (await house.result(receipt))["nodes"] == 2


async def test_edges_alone_make_their_nodes(house: House) -> None:
    receipt = await house.ingest(EDGES, {"Content-Type": "text/csv"}, name="alone")
    result = await house.result(receipt)
    assert (result["nodes"], result["edges"], result["total_supply"]) == (3, 3, 0.0)
    dimacs = "p min 3 1\nn 1 2\nn 3 -2\na 1 3 0 5 7\n"
    receipt = await house.ingest(dimacs, {"Content-Type": "application/x-dimacs"}, name="dimacs")
    assert (await house.result(receipt))["nodes"] == 3


@pytest.mark.parametrize(
    ("nodes", "edges", "bad"),
    [
        (NODES, EDGES + "a,b,x,1,0\na,b,1,-1,0\n", [
            {"file": "edges.csv", "line": 5, "reason": "cost is not a number: 'x'"},
            {"file": "edges.csv", "line": 6, "reason": "capacity is below 0: '-1'"},
        ]),
        (NODES + "a,1,\n", EDGES, [
            {"file": "nodes.csv", "line": 5, "reason": "node a is given twice"}]),
        (NODES, EDGES + "a,q,1,1,0\n", [
            {"file": "edges.csv", "line": 5, "reason": "target q is not among the nodes"}]),
    ],
)  # fmt: skip
async def test_rows_that_cannot_be_used_are_told_and_nothing_is_seen(
    house: House, nodes: str, edges: str, bad: list[dict[str, Any]]
) -> None:
    record = await house.ended(await house.ingest(form(nodes, edges), name="bad"))
    assert record["status"] == "failed"
    assert record["error"]["class"] == "BadRows"
    assert (
        f"{bad[0]['file']} line {bad[0]['line']}: {bad[0]['reason']}" in record["error"]["message"]
    )
    assert record["progress"]["bad_rows"] == bad
    assert record["progress"]["bad_rows_count"] == len(bad)
    async with house.api.http.get("/networks/bad") as response:
        assert response.status == 404
        await problem(response)
    assert (await house.flag_changes())[-1] is False


async def test_a_hundred_bad_rows_are_told_of_a_thousand(house: House) -> None:
    edges = EDGES + "a,b,x,1,0\n" * 1000
    record = await house.ended(await house.ingest(form(NODES, edges), name="bad"))
    assert len(record["progress"]["bad_rows"]) == 100
    assert record["progress"]["bad_rows_count"] == 1000
    assert record["error"]["message"].startswith("1000 rows cannot be used: ")


@pytest.mark.parametrize(
    ("query", "headers", "body", "status", "said"),
    [
        ({}, NDJSON, b"{}", 422, "name: is required"),
        ({"name": "a/b"}, NDJSON, b"{}", 422, "name: must be 1 to 128"),
        ({"name": "a", "x": "1"}, NDJSON, b"{}", 422, "x: is not known"),
        ({"name": "a"}, {"Content-Type": "text/html"}, b"{}", 415, "Content-Type is text/html"),
        ({"name": "a"}, NDJSON, b"", 400, "is empty"),
        ({"name": "a"}, NDJSON, b" " * (MOST + 1), 413, f"limit of {MOST} bytes"),
        ({"name": "a"}, {**NDJSON, "Content-Encoding": "gzip"}, packed(b" " * (2 * MOST)),
         413, f"limit of {MOST} bytes"),
        ({"name": "a"}, {**NDJSON, "Content-Encoding": "gzip"}, packed(b"{}")[:-9], 400,
         "ends before it is complete"),
        ({"name": "a"}, {"Content-Type": "multipart/form-data"}, b"x", 400, "not multipart"),
        ({"name": "a"}, {"Content-Type": "multipart/form-data; boundary=b"}, b"--b--\r\n", 422,
         "has no file"),
        ({"name": "a"}, {"Content-Type": "multipart/form-data; boundary=b"},
         b'--b\r\nContent-Disposition: form-data; name="nodes"\r\n\r\nid', 400, ""),
    ],
)  # fmt: skip
async def test_a_bad_upload_is_refused_and_leaves_nothing(
    house: House, query: Any, headers: Any, body: bytes, status: int, said: str
) -> None:
    async with house.api.http.post("/ingest", params=query, headers=headers, data=body) as response:
        assert response.status == status, await response.text()
        assert said in (await problem(response))["detail"]
    async with Database(house.config.postgres) as database:
        assert await database.fetch("SELECT 1 FROM drawbridge.upload_pieces") == []


@pytest.mark.parametrize(
    "head",
    [
        b"", b"no colon\r\n", b"X-A: a\0b\r\n", b"X-A: " + b"a" * 8200 + b"\r\n",
        b"X-A: a\r\n" * 200,
    ],
    ids=["none", "no colon", "NUL", "long", "many"],
)  # fmt: skip
async def test_a_malformed_head_of_a_part_is_the_callers_fault(house: House, head: bytes) -> None:
    await _refused_form(house, b"--zz\r\n" + head + b"--zz--\r\n")


async def test_a_charset_of_a_form_that_is_no_text_is_the_callers_fault(house: House) -> None:
    named = b'--zz\r\nContent-Disposition: form-data; name="_charset_"\r\n\r\n\xff\r\n--zz--\r\n'
    await _refused_form(house, named)


async def _refused_form(house: House, body: bytes) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=zz"}
    async with house.api.http.post(
        "/ingest", params={"name": "a"}, headers=headers, data=body
    ) as response:
        assert response.status == 400, await response.text()
        assert (await problem(response))["detail"] == "The body is not multipart/form-data."


async def test_a_form_with_a_strange_field_is_refused(house: House) -> None:
    made = form(NODES, EDGES)
    made.add_field("colour", "red")
    async with house.api.http.post("/ingest", data=made, params={"name": "a"}) as response:
        assert (await problem(response))["field"] == "colour"
    odd = b'--zz\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nred\r\n--zz--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=zz"}
    async with house.api.http.post("/ingest", data=odd, headers=headers) as response:
        assert response.status == 422, await response.text()
        await problem(response)
    made = form(NODES, EDGES)
    made.add_field("name", "by-field")
    assert (await house.result(await house.ingest(made)))["network"] == "by-field"


async def test_a_repeated_request_is_the_same_job(house: House) -> None:
    headers = {"Idempotency-Key": new_id(), **NDJSON}
    text = json.dumps({"source": "a", "target": "b", "cost": 1})
    first = await house.ingest(text, headers, name="once")
    async with house.api.http.post(
        "/ingest", data=text, headers=headers, params={"name": "once"}
    ) as response:
        assert response.status == 200
        assert (await response.json())["run_id"] == first["run_id"]
    async with house.api.http.post(
        "/ingest", data=text + "\n", headers=headers, params={"name": "once"}
    ) as response:
        assert response.status == 422
    assert (await house.result(first))["edges"] == 1


async def test_networks_are_listed_in_pages(house: House) -> None:
    for name in ("list-1", "list-2", "list-3"):
        await house.result(await house.ingest(EDGES, {"Content-Type": "text/csv"}, name=name))
    first = await house.get("/networks?limit=2&cursor=list-0")
    assert [each["name"] for each in first["networks"]] == ["list-1", "list-2"]
    rest = await house.get(f"/networks?cursor={first['cursor']}")
    assert rest["networks"][0]["name"] == "list-3"


async def test_a_manual_change_of_the_flag_starts_and_stops_nothing(house: House) -> None:
    await house.api.put_flag(INGESTION, True)
    lines = "\n".join(json.dumps({"source": i, "target": i + 1, "cost": 1}) for i in range(3000))
    receipt = await house.ingest(lines, NDJSON, name="manual")
    await house.api.put_flag(INGESTION, False)
    assert (await house.result(receipt))["edges"] == 3000
    await house.api.put_flag(INGESTION, True)
    assert (await house.get("/networks/manual"))["edges"] == 3000
    await house.api.put_flag(INGESTION, False)


async def test_the_command_uploads_and_shows(house: House, tmp_path: Path) -> None:
    environ = clean_environment(DRAWBRIDGE_API=house.api.url, HOME="/nonexistent")
    (tmp_path / "n.csv").write_text(NODES)
    (tmp_path / "e.csv.gz").write_bytes(packed(EDGES.encode()))
    (tmp_path / "bad.csv").write_text(EDGES + "a,b,x,1,0\n")
    files = [str(tmp_path / name) for name in ("e.csv.gz", "n.csv")]
    status, out, _ = await drawbridge(
        "ingest", *files, "--name", "cli", "--follow", environ=environ
    )
    assert (status, out) == (
        0, "cli is stored · 3 nodes · 3 edges · supply 4 · demand 4\n"
    )  # fmt: skip
    (again, told), (refused, said), (listed, table), (shown, lines) = await asyncio.gather(
        _run(environ, "ingest", *files, "--name", "cli", "--follow", "--json"),
        _run(environ, "ingest", str(tmp_path / "bad.csv"), "--name", "cli", "--follow"),
        _run(environ, "networks", "list", "--cursor", "cl"),
        _run(environ, "networks", "show", "cli"),
    )
    assert (again, json.loads(told.splitlines()[0])["outcome"]) == (0, "unchanged")
    assert (refused, listed, shown) == (1, 0, 0)
    assert "bad.csv:5: cost is not a number: 'x'" in said
    assert table.splitlines()[1].split()[:4] == ["cli", "3", "3", "4"]
    assert "total_demand  4.0" in lines


async def _run(environ: dict[str, str], *arguments: str) -> tuple[int, str]:
    status, out, errors = await drawbridge(*arguments, environ=environ)
    return status, out + errors


async def test_replaced_versions_are_swept_once_nobody_reads_them(house: House) -> None:
    lines = [json.dumps({"source": i, "target": i + 1, "cost": 1}) for i in range(20)]
    versions = [
        (await house.result(await house.ingest("\n".join(lines[:size]), NDJSON, name="swept")))[
            "version"
        ]
        for size in (5, 10, 20)
    ]
    reader = NetworkReader(house.graph, SystemClock())
    old, pinned, current = versions
    await house.graph.write("MATCH (n:Network {name: 'swept'}) SET n.version = $v", v=pinned)
    await reader.open("swept")
    await house.graph.write("MATCH (n:Network {name: 'swept'}) SET n.version = $v", v=current)

    async with Database(house.config.postgres) as database:
        lamp = Lamp(database, house.api.plane, house.api.jobs)
        given = IngestStores(house.graph, Uploads(database), lamp, house.api.jobs, SystemClock())

        async def swept() -> tuple[set[str], KindRun]:
            run = await run_kind(sweep, resources={IngestStores: given})
            rows = await house.graph.rows("MATCH (v:NetworkVersion) RETURN v.id")
            return {version for (version,) in rows} & set(versions), run

        left, run = await swept()
        assert left == {pinned, current}
        assert run.error is not None
        assert (run.error.class_, run.status) == ("StillRead", "scheduled")
        await house.graph.write("MATCH (v:NetworkVersion) SET v.pinned_until_ms = 0")
        left, run = await swept()
        assert left == {current}
        assert run.result is not None
    assert old not in left
    assert (await read(house.graph, "swept"))[0].edges == 20
    [(stray,)] = await house.graph.rows(
        "MATCH (n:NetworkNode) WHERE n.network_key STARTS WITH $old RETURN count(n)", old=old
    )
    assert stray == 0
