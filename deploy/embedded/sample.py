"""Solves the sample model that ships with Drawbridge, as any client would: over HTTP."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from control.errors import DrawbridgeError

MODEL = Path(__file__).with_name("sample.mps")
CONTENT_TYPE = "application/x-mps"
_LIMIT_S = 60.0
_ASK_EVERY_S = 0.05
_WAITING = 409  # what the result says of a job that has not finished


async def solve(api: str, token: str) -> float:
    """The optimum of :data:`MODEL`. Raises :class:`DrawbridgeError` where there is none."""
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with (
            asyncio.timeout(_LIMIT_S),
            aiohttp.ClientSession(api, headers=headers) as session,
        ):
            body = MODEL.read_bytes()
            headers = {"Content-Type": CONTENT_TYPE}
            async with session.post("/optimize", data=body, headers=headers) as answer:
                job = await _said(answer, 200, 202)
            result = await _result(session, f"/optimize/{job['run_id']}/result")
    except TimeoutError:
        raise DrawbridgeError(f"the sample model is not solved after {_LIMIT_S:g} s") from None
    except aiohttp.ClientError as error:
        raise DrawbridgeError(
            f"the sample model: the service fails ({type(error).__name__})"
        ) from None
    if result.get("outcome") != "optimal":
        raise DrawbridgeError(f"the sample model ended as {result.get('outcome')}")
    return float(result["objective"])


async def _result(session: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    while True:
        async with session.get(path) as answer:
            said = await _said(answer, 200, _WAITING)
            if answer.status == 200:
                return said
        if (status := said.get("job_status")) in ("failed", "cancelled"):
            raise DrawbridgeError(f"the sample model's job is {status}")
        await asyncio.sleep(_ASK_EVERY_S)


async def _said(answer: aiohttp.ClientResponse, *good: int) -> dict[str, Any]:
    body: Any = await answer.json(content_type=None)
    if answer.status in good and isinstance(body, dict):
        return body
    detail = body.get("detail") if isinstance(body, dict) else None
    raise DrawbridgeError(f"the sample model: the service says {answer.status} ({detail})")
