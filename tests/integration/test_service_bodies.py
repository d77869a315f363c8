"""Bodies that are too large, broken or of the wrong type; the service goes on undisturbed."""

import asyncio
import gzip
import io
import resource
import zlib
from collections.abc import AsyncIterator

import pytest

from tests.serving import MODEL, MPS, Served, problem, served
from tests.timing import timed

MIB = 1 << 20
GZIP = {**MPS, "Content-Encoding": "gzip"}


@pytest.fixture
async def api(stores, redis) -> AsyncIterator[Served]:
    async with served(stores.config) as running:
        yield running


async def pieces(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // MIB):
        yield b"*" * MIB


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(api: Served) -> None:
    sent = []

    async def body() -> AsyncIterator[bytes]:
        sent.append(True)
        yield b"*" * 33 * MIB

    headers = {**MPS, "Content-Length": str(33 * MIB)}
    async with api.http.post("/optimize", data=body(), headers=headers, expect100=True) as response:
        assert response.status == 413
        assert (await problem(response))["limit"] == 32 * MIB
    assert not sent


async def test_a_stream_is_cut_off_at_the_limit(api: Served) -> None:
    async with api.http.post("/optimize", data=pieces(33 * MIB), headers=MPS) as response:
        assert response.status == 413
        await problem(response)


async def test_a_body_just_under_the_limit_is_read(api: Served) -> None:
    body = io.BytesIO(MODEL + b"*" * (32 * MIB - len(MODEL)))
    async with api.http.post("/optimize", data=body, headers=MPS) as response:
        assert response.status in (202, 422), await response.text()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@timed
async def test_a_bomb_costs_little_memory_and_never_holds_up_the_loop(
    api: Served, encoding: str
) -> None:
    packer = zlib.compressobj(wbits=31 if encoding == "gzip" else 15)
    start = packer.compress(b"0") + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing refers back, so one compressed block may be said again and again.
    block = packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = start + 256 * block
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lag = asyncio.create_task(longest_lag())
    headers = {**MPS, "Content-Encoding": encoding}
    async with api.http.post("/optimize", data=io.BytesIO(bomb), headers=headers) as response:
        assert response.status == 413
        await problem(response)
    lag.cancel()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200 * 1024, "4 GiB of zeros, and the process grew by more than 200 MiB"
    assert await lag < 1.0


async def longest_lag() -> float:
    """The longest time, in seconds, that the loop came late; until cancelled."""
    loop, worst = asyncio.get_running_loop(), 0.0
    try:
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            worst = max(worst, loop.time() - due)
    except asyncio.CancelledError:
        return worst


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param(b"", MPS, 400, id="empty"),
        pytest.param(b"", GZIP, 400, id="empty and called gzip"),
        pytest.param(gzip.compress(b""), GZIP, 400, id="gzip of nothing"),
        pytest.param(gzip.compress(MODEL)[:-9], GZIP, 400, id="truncated gzip"),
        pytest.param(gzip.compress(MODEL)[:40] + b"\xff" * 20, GZIP, 400, id="corrupt gzip"),
        pytest.param(MODEL, GZIP, 400, id="no gzip at all"),
        pytest.param(gzip.compress(MODEL) + b"more", GZIP, 400, id="bytes after a gzip"),
        pytest.param(MODEL, {**MPS, "Content-Encoding": "br"}, 415, id="unknown encoding"),
        pytest.param(MODEL, {**MPS, "Content-Encoding": "gzip, gzip"}, 415, id="two encodings"),
        pytest.param(MODEL, {"Content-Type": "text/plain"}, 415, id="wrong type"),
        pytest.param(
            MODEL, {"Content-Type": "application/x-mps; charset=latin-1"}, 415, id="wrong charset"
        ),
        pytest.param(b"NAME \xff", MPS, 400, id="no utf-8"),
        pytest.param(b'{"problem":', {"Content-Type": "application/json"}, 400, id="cut JSON"),
        pytest.param(
            b'{"problem": {"format": "mps", "content": "\xff"}}',
            {"Content-Type": "application/json"},
            400,
            id="JSON that is no utf-8",
        ),
        pytest.param(
            b'{"problem":' + b"[" * 100_000, {"Content-Type": "application/json"}, 422, id="deep"
        ),
        pytest.param(b'{"timeout_s": NaN}', {"Content-Type": "application/json"}, 400, id="NaN"),
    ],
)
async def test_a_bad_body_is_a_clear_problem(
    api: Served, body: bytes, headers: dict, status: int
) -> None:
    async with api.http.post("/optimize", data=body, headers=headers) as response:
        assert response.status == status, await response.text()
        await problem(response)


async def test_no_content_type_is_415_and_names_what_is_accepted(api: Served) -> None:
    async with api.http.post(
        "/optimize", data=MODEL, skip_auto_headers=["Content-Type"]
    ) as response:
        assert response.status == 415
        accepted = ["application/json", "application/x-mps", "application/x-lp"]
        assert (await problem(response))["accepted"] == accepted


async def test_zeros_may_pad_a_gzip_file(api: Served) -> None:
    body = gzip.compress(MODEL) + bytes(512)
    async with api.http.post("/optimize", data=body, headers=GZIP) as response:
        assert response.status == 202, await response.text()


@pytest.mark.parametrize("wbits", [15, -15])
async def test_deflate_comes_with_and_without_its_header(api: Served, wbits: int) -> None:
    packer = zlib.compressobj(wbits=wbits)
    body = packer.compress(MODEL) + packer.flush()
    headers = {**MPS, "Content-Encoding": "deflate"}
    async with api.http.post("/optimize", data=body, headers=headers) as response:
        assert response.status == 202, await response.text()


async def test_a_client_that_leaves_halfway_disturbs_nobody(api: Served) -> None:
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "POST /optimize HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-mps\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\nNAME".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    async with api.http.get("/health") as response:
        assert response.status == 200
