"""Posts one signed message. What follows from the answer is for the caller to say."""

import asyncio
from datetime import datetime
from email.utils import parsedate_to_datetime

import aiohttp
import msgspec

from control import __version__
from control.clock import Clock
from control.webhooks.destinations import Destinations, NotAllowed, Resolver, parsed
from control.webhooks.signature import Signer

DEADLINE_S = 15.0
"""From the look-up of the name to the head of the answer."""

SCHEDULE_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long to wait after each attempt that failed, as Standard Webhooks advises; ten in all."""

ATTEMPTS = len(SCHEDULE_S) + 1
LONGEST_WAIT_S = 86_400.0
GONE = 410
"""The status that ends all further messages."""


class Answer(msgspec.Struct, frozen=True):
    """What the receiver said. ``retry_after_s``: not to be asked sooner."""

    status: int
    retry_after_s: float = 0.0

    @property
    def taken(self) -> bool:
        """Whether the receiver has it now."""
        return 200 <= self.status < 300


def wait_s(attempt: int, asked_s: float = 0.0) -> float:
    """How long to wait after the ``attempt``-th that failed (from 1): as the schedule says, or as
    long as the receiver asks for; a day at most."""
    scheduled = SCHEDULE_S[min(attempt, len(SCHEDULE_S)) - 1]
    return min(max(scheduled, asked_s), LONGEST_WAIT_S)


class NotAnswered(Exception):
    """The receiver said nothing; why, in a few safe words. ``final``: nor may it be asked again."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class Sender:
    """A client for webhooks; whoever makes one closes it. It follows no redirect, keeps no cookie,
    goes through no proxy, and reads nothing of an answer but its head.
    """

    def __init__(self, signer: Signer, destinations: Destinations, clock: Clock) -> None:
        self._signer = signer
        self._destinations = destinations
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def post(
        self, url: str, message_id: str, body: bytes, signer: Signer | None = None
    ) -> Answer:
        """Post ``body``, JSON, under an id that stays the same however often it is posted.

        ``signer`` signs where the receiver has a secret of its own. Raises :class:`NotAnswered`.
        """
        signer = signer or self._signer
        if not signer.ready:
            raise NotAnswered("this worker has no DRAWBRIDGE_CALLBACK_SECRET to sign with")
        now = self._clock.now()
        signed = signer.headers(message_id, now, body)
        try:
            async with asyncio.timeout(DEADLINE_S):
                response = await self._client().post(
                    parsed(url),
                    data=body,
                    headers={"Content-Type": "application/json", **signed},
                    allow_redirects=False,
                )
        except TimeoutError:
            raise NotAnswered(f"no answer within {DEADLINE_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _not_answered(error) from None
        response.close()
        return Answer(response.status, retry_after_s(response.headers.get("Retry-After", ""), now))

    def _client(self) -> "aiohttp.ClientSession":
        """Made with the first message: most workers have none to post."""
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=Resolver(self._destinations),
                socket_factory=self._destinations.socket,
                use_dns_cache=False,
                force_close=True,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"User-Agent": f"drawbridge/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session


def _not_answered(error: Exception) -> NotAnswered:
    """``error`` without what it may say of the URL."""
    reason = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(reason, NotAllowed):
        return NotAnswered(str(reason), final=True)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NotAnswered("its name cannot be resolved")
    if isinstance(error, aiohttp.ClientSSLError):
        return NotAnswered("its certificate or its TLS is not valid")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NotAnswered("cannot be reached")
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return NotAnswered("is no URL", final=True)
    return NotAnswered("the connection broke before there was an answer")


def retry_after_s(retry_after: str, now: datetime) -> float:
    """Seconds that the header ``Retry-After`` asks for; 0 without a good one."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        until = parsedate_to_datetime(retry_after)
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0
