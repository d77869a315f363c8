"""A client of the HTTP API of somebody who sends for us."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from control import __version__
from control.clock import Clock
from control.webhooks.sender import retry_after_s
from worker.notify.delivery import Postponed

DEADLINE_S = 15.0
_LARGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Said:
    """An answer; ``body`` is its JSON object, empty where it is none."""

    status: int
    retry_after_s: float
    body: dict[str, Any]

    @property
    def good(self) -> bool:
        """Whether what was asked for is done."""
        return 200 <= self.status < 300


class Provider:
    """``name`` is what it is called in what operators read; whoever makes one closes it."""

    def __init__(self, name: str, url: str, clock: Clock, headers: Mapping[str, str]) -> None:
        self.name = name
        self._url = url.rstrip("/")
        self._clock = clock
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"drawbridge/{__version__}", **headers},
        )

    async def aclose(self) -> None:
        """Close what is open."""
        await self._session.close()

    async def ask(self, method: str, path: str, **request: Any) -> Said:
        """One request. Raises :class:`Postponed` where there is no answer."""
        try:
            async with (
                asyncio.timeout(DEADLINE_S),
                self._session.request(
                    method, self._url + path, allow_redirects=False, **request
                ) as response,
            ):
                text = await response.content.read(_LARGEST_ANSWER)
        except TimeoutError:
            raise Postponed(f"{self.name} does not answer", ours=True) from None
        except (aiohttp.ClientError, OSError):
            raise Postponed(f"{self.name} cannot be reached", ours=True) from None
        wait_s = retry_after_s(response.headers.get("Retry-After", ""), self._clock.now())
        return Said(response.status, wait_s, _object(text))

    def not_now(self, said: Said) -> Postponed:
        """An answer that another attempt may cure: busy, broken, or we are not let in."""
        return Postponed(f"{self.name} answered {said.status}", said.retry_after_s, ours=True)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
