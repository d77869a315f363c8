"""Makes one attempt at a delivery, and settles what comes of it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TypeVar

from control import logs
from control.backoff import Backoff
from control.clock import Clock
from control.errors import StoreUnavailable
from control.metrics.tally import Labels
from control.subscribers.claim import Claim
from control.subscribers.links import Links
from control.subscribers.notice import CONFIRM
from control.subscribers.outbox import Begun, Outbox
from control.subscribers.tokens import CONFIRM_WITHIN
from control.subscribers.vault import Unreadable, Vault
from control.webhooks.sender import ATTEMPTS, wait_s
from worker.notify.delivery import Carrier, Delivery, Gone, Postponed, Refused

T = TypeVar("T")
AT_ONCE = 20
"""Attempts that a worker makes at the same time."""

_SETTLE_TRIES = 4
_BACKOFF_S = (0.1, 2.0)


class Courier:
    """``carriers`` by channel: those that are set up."""

    def __init__(
        self,
        outbox: Outbox,
        vault: Vault,
        links: Links,
        carriers: Mapping[str, Carrier],
        clock: Clock,
    ) -> None:
        self._outbox = outbox
        self._vault = vault
        self._links = links
        self._carriers = carriers
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._log = logs.get(__name__)
        self.outcomes: Counter[Labels] = Counter()
        """How attempts ended here, by channel and outcome."""

    async def deliver(self, claim: Claim) -> str:
        """Make the attempt that ``claim`` is good for: ``sent``, ``postponed``, ``failed``,
        ``ended``, ``dropped``, or ``superseded`` where it is good for none any more.

        Raises :class:`StoreUnavailable`; then the claim ends by itself.
        """
        async with self._slots:
            begun = await self._outbox.begin(claim)
            if begun is None:
                return "superseded"
            outcome, why = await self._attempt(begun)
        self.outcomes[begun.channel, outcome] += 1
        log = self._log.debug if outcome == "sent" else self._log.info
        log(
            "notice", outcome=outcome, why=why, message=begun.claim.message_id,
            channel=begun.channel, attempt=begun.attempt,
        )  # fmt: skip
        return outcome

    async def _attempt(self, begun: Begun) -> tuple[str, str]:
        """What became of it, and why."""
        held, outbox = begun.claim, self._outbox
        if why := _unwanted(begun, self._clock.now()):
            await _settled(lambda: outbox.drop(held, why))
            return "dropped", why
        try:
            await self._carried(begun)
        except Gone as error:
            why = str(error)
            await _settled(lambda: outbox.end_subscription(held, why))
            return "ended", why
        except Refused as error:
            return await self._given_up(begun, str(error), charged=True)
        except Postponed as error:
            why = str(error)
            if begun.attempt >= ATTEMPTS:
                return await self._given_up(begun, why, charged=not error.ours)
            later_s = wait_s(begun.attempt, error.wait_s)
            await _settled(lambda: outbox.later(held, later_s, why))
            return "postponed", why
        await _settled(lambda: outbox.sent(held))
        return "sent", ""

    async def _carried(self, begun: Begun) -> None:
        if begun.attempt > ATTEMPTS:  # each one before ended with its worker
            raise Refused("no attempt came to an end")
        carrier = self._carriers.get(begun.channel)
        if carrier is None:
            raise Postponed(f"this worker is not set up for {begun.channel}", ours=True)
        try:
            delivery = self._delivery(begun)
        except Unreadable as error:
            raise Postponed(str(error), ours=True) from None
        await carrier.carry(delivery)

    async def _given_up(self, begun: Begun, why: str, *, charged: bool) -> tuple[str, str]:
        quarantined = await _settled(lambda: self._outbox.fail(begun.claim, why, charged=charged))
        if quarantined:
            self._log.warning(
                "subscriber in quarantine", subscriber=begun.claim.subscriber, why=why
            )
        return "failed", why

    def _delivery(self, begun: Begun) -> Delivery:
        """What carriers need. Raises :class:`Unreadable`."""
        subscriber, sealed = begun.claim.subscriber, begun.secret
        return Delivery(
            id=begun.claim.message_id,
            subscriber=subscriber,
            address=self._vault.open(begun.address, f"{subscriber}:address"),
            secret=None if sealed is None else self._vault.open(sealed, f"{subscriber}:secret"),
            notice=begun.notice,
            at=begun.noticed_at,
            attempt=begun.attempt,
            links=self._links.of(subscriber, begun.notice.path, begun.noticed_at),
        )


def _unwanted(begun: Begun, now: datetime) -> str:
    """Why it is not to be sent any more, if that is so."""
    if begun.notice.kind == CONFIRM:
        if begun.state != "pending" or begun.became is not None:
            return "it was confirmed meanwhile"
        return "nobody confirmed in time" if begun.requested_at + CONFIRM_WITHIN <= now else ""
    return "" if begun.state == "active" else f"its subscription is {begun.state}"


async def _settled(settle: Callable[[], Awaitable[T]]) -> T:
    """Have PostgreSQL know. It is asked a few times: else the message is sent once more."""
    pause = Backoff(*_BACKOFF_S)
    for _ in range(_SETTLE_TRIES - 1):
        try:
            return await settle()
        except StoreUnavailable:
            await pause.wait()
    return await settle()
