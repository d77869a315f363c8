"""Clients that mean harm, over real sockets: each is refused, and nobody else notices."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import psutil
import pytest
import structlog
from redis.asyncio import Redis

from control import connections
from control.entrance_settings import EntranceSection
from service import body
from tests.conftest import LiveStores
from tests.serving import MPS, Served, served
from tests.stack import wait_until

TOKEN = "an-admin-token-of-the-test"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
SECRET = "dont-repeat-me"
PATIENCE_S = 0.4
HASTY = EntranceSection(head_s=PATIENCE_S, body_s=PATIENCE_S, idle_s=1.0)
UPLOAD = b"POST /optimize HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-mps\r\n"


@asynccontextmanager
async def facing(stores: LiveStores, entrance: EntranceSection, **service: Any) -> Any:
    config = replace(stores.config, entrance=entrance)
    async with served(config, **{"admin_token": TOKEN, **service}) as api:
        yield api


@pytest.fixture
async def api(stores: LiveStores, redis: Redis) -> AsyncIterator[Served]:
    async with facing(stores, HASTY) as running:
        yield running


async def connect(api: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = api.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def say(api: Served, *pieces: bytes, every_s: float = 0.0) -> bytes:
    """What the service answers to ``pieces`` before it closes the connection."""
    reader, writer = await connect(api)
    try:
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(every_s)
        async with asyncio.timeout(20):
            return await reader.read()
    except ConnectionError:  # it was closed while we were sending on
        return bytes(reader._buffer)  # type: ignore[attr-defined]
    finally:
        writer.close()


def told(raw: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Status, headers and problem of one answer, after a look at what each must have."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    document = json.loads(rest)
    assert headers["content-type"].startswith("application/problem+json"), raw
    assert headers["x-content-type-options"] == "nosniff"
    assert "aiohttp" not in headers["server"].lower()
    assert headers["x-request-id"] == document["request_id"]
    assert document["status"] == int(first.split()[1])
    return document["status"], headers, document


async def end(api: Served, run_id: str) -> None:
    async with api.http.delete(f"/jobs/{run_id}") as response:
        assert response.status == 202


async def well(api: Served) -> None:
    """Whoever behaves is served meanwhile."""
    async with asyncio.timeout(10), api.http.get("/health") as response:
        assert response.status == 200


def head(*lines: str, method: str = "POST", target: str = "/optimize") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: x", *lines, "", "")).encode("latin-1")


MALFORMED = {
    "no HTTP": (b"HELLO\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "bare LF": (b"GET /jobs HTTP/1.1\nHost: x\n\n", 400),
    "no Host": (b"GET /jobs HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (head("Host: y", method="GET"), 400),
    "HTTP/2 in the clear": (b"GET /jobs HTTP/2.0\r\nHost: x\r\n\r\n", 400),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "NUL": (head(f"X-A: {SECRET}\0", method="GET"), 400),
    "CR in a value": (head("X-A: b\rc", method="GET"), 400),
    "folded": (head("X-A: b", " c", method="GET"), 400),
    "blank before the colon": (head("Content-Length : 4") + b"abcd", 400),
    "control character in the address": (b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "address that is none": (f"GET http://[{SECRET} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), 400),
    "long address": (head(method="GET", target="/" + "a" * 9_000), 431),
    "long field": (head("X-A: " + "a" * 9_000, method="GET"), 431),
    "many fields": (head(*(f"X-{n}: a" for n in range(200)), method="GET"), 431),
    "length and chunks": (
        head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400,
    ),
    "two lengths": (head("Content-Length: 4", "Content-Length: 5") + b"abcd", 400),
    "length with a sign": (head("Content-Length: +4") + b"abcd", 400),
    "chunked twice": (head("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), 400),
    "xchunked": (head("Transfer-Encoding: xchunked") + b"0\r\n\r\n", 400),
    "size that is no number": (head("Transfer-Encoding: chunked") + b"zz\r\nabc\r\n0\r\n\r\n", 400),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
async def test_what_cannot_be_read_is_a_problem_and_never_repeated(api: Served, name: str) -> None:
    raw, expected = MALFORMED[name]
    smuggled = b"GET /no-such-thing-smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    with structlog.testing.capture_logs() as lines:
        answer = await say(api, raw + smuggled)
    status, headers, document = told(answer)
    assert status == expected
    assert headers.get("connection", "close") == "close"
    assert answer.count(b"HTTP/") == 1, "what followed was taken for a request"
    assert SECRET not in str(document) + str(lines)
    assert not any(line.get("exc_info") for line in lines), "a traceback for whoever likes"
    await well(api)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /jobs HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"POST /health HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
)
async def test_no_other_version_is_spoken(api: Served, raw: bytes, status: int) -> None:
    assert told(await say(api, raw))[0] == status


async def test_a_head_that_never_ends_is_given_up(api: Served) -> None:
    dripping = [bytes([byte]) for byte in b"GET /health HTTP/1.1\r\nX-A: " + b"a" * 200]
    slow = [asyncio.create_task(say(api, *dripping, every_s=0.02)) for _ in range(20)]
    await well(api)
    for answer in await asyncio.gather(*slow):
        assert told(answer)[0] == 408
    # A connection that is open in advance hears nothing, but does not stay either.
    assert await say(api) == b""


async def test_nor_does_the_second_request_of_a_connection_wait_for_ever(api: Served) -> None:
    answer = await say(api, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /hea", every_s=0.1)
    first, second = answer.split(b"HTTP/1.1 408", 1)
    assert first.startswith(b"HTTP/1.1 200")
    assert b"request-timeout" in second
    # Between requests it may rest, but not for good.
    assert (await say(api, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "framed", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"]
)
async def test_a_body_that_drips_is_given_up(api: Served, framed: bytes) -> None:
    drop = b"1\r\nN\r\n" if b"chunked" in framed else b"N"
    answer = await say(api, UPLOAD + framed, *[drop] * 100, every_s=0.02)
    assert told(answer)[0] == 408
    async with api.http.get("/jobs") as response:
        assert (await response.json())["jobs"] == []


async def test_a_slow_but_steady_upload_is_taken(api: Served, monkeypatch: Any) -> None:
    monkeypatch.setattr(body, "SLOWEST", 400)
    text = b"*" * 1_000

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(text), 40):
            yield text[at : at + 40]
            await asyncio.sleep(PATIENCE_S / 10)  # ten times the patience in all

    async with api.http.post("/optimize", data=pieces(), headers=MPS) as response:
        assert response.status == 422, "no model, but read to its end"


async def test_who_follows_a_job_is_not_hurried(api: Served) -> None:
    run_id = await api.put()
    async with api.http.get(f"/jobs/{run_id}/events") as response:
        assert (await response.content.readline()).startswith(b"retry")
        await asyncio.sleep(1.5)  # every deadline has passed
        await end(api, run_id)
        async with asyncio.timeout(10):
            assert b"event: end" in await response.read()


async def test_many_silent_connections_keep_nobody_out(stores: LiveStores, redis: Redis) -> None:
    patient = EntranceSection(head_s=60, connections=10)
    async with facing(stores, patient) as api:
        run_id = await api.put()
        async with api.http.get(f"/jobs/{run_id}/events") as followed:
            silent = [await connect(api) for _ in range(30)]
            await well(api)
            async with asyncio.timeout(10):  # the eldest made room
                await asyncio.gather(
                    *(reader.read() for reader, _ in silent[:20]), return_exceptions=True
                )
            await end(api, run_id)
            async with asyncio.timeout(10):
                assert b"event: end" in await followed.content.read()
            for _, writer in silent:
                writer.close()


def held(port: int) -> bool:
    """Whether this process still has its end of the connection with the client's ``port``."""
    found = psutil.Process().net_connections("tcp")
    return any(each.raddr and each.raddr.port == port for each in found)


async def test_a_client_that_does_not_read_is_let_go(
    stores: LiveStores, redis: Redis, monkeypatch: Any
) -> None:
    monkeypatch.setattr(connections, "STUCK_S", 1.0)
    async with facing(stores, EntranceSection()) as api:
        host, _, port = api.url.removeprefix("http://").partition(":")
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect((host, int(port)))
            deaf.sendall(head(method="GET", target="/docs/swagger-ui-bundle.js"))
            mine = deaf.getsockname()[1]
            await wait_until(lambda: held(mine))
            await wait_until(lambda: not held(mine))
        await well(api)


async def handled(api: Served) -> float:
    """How many probes were answered."""
    async with api.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    counts = [line for line in lines if line.startswith("drawbridge_http_requests_total{")]
    return sum(float(line.split()[-1]) for line in counts if 'route="/health"' in line)


async def test_requests_whose_answers_nobody_reads_are_not_handled(api: Served) -> None:
    asked = 20_000
    reader, writer = await connect(api)
    writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
    before, now = -1.0, await handled(api)
    while now > before:
        await asyncio.sleep(0.4)
        before, now = now, await handled(api)
    assert 0 < now < asked * 0.7, "answers pile up"
    writer.transport.abort()
    del reader


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "PATCH"])
async def test_other_methods_are_refused_as_problems(api: Served, method: str) -> None:
    async with api.http.request(method, "/jobs") as response:
        assert response.status in (404, 405)
        assert response.status != 405 or response.headers["Allow"] == "GET, HEAD"
        assert "x-a" not in (await response.text()).lower()


async def test_the_host_that_a_client_names_is_not_repeated(api: Served) -> None:
    for path in ("/docs", "/openapi.json", "/jobs", "/no-such-thing", "/docs/"):
        async with api.http.get(
            path, headers={"Host": "evil.example"}, allow_redirects=False
        ) as response:
            assert "evil.example" not in str(response.headers) + await response.text()


@pytest.mark.parametrize("name", [
    "..%2f..%2fapp.py", "%2e%2e/%2e%2e/app.py", "..%5c..%5capp.py", "/etc/passwd",
    "start.js%00.png", "....//app.py", "LICENSE",
])  # fmt: skip
async def test_only_the_files_of_the_page_are_served(api: Served, name: str) -> None:
    answer = await say(api, head("Connection: close", method="GET", target=f"/docs/{name}"))
    assert told(answer)[0] == 404


async def test_the_page_runs_no_script_but_its_own(api: Served) -> None:
    async with api.http.get(
        "/docs?url=https://evil.example/x.json&configUrl=https://evil.example/"
    ) as response:
        policy = dict(
            part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; ")
        )
        assert "evil" not in await response.text()
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    async with api.http.get("/docs/start.js") as response:
        assert "queryConfigEnabled" not in await response.text()
