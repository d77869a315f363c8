"""Subscriptions to the status page: what may be asked, by whom, how often.

Nothing that an answer says, and nothing that is done before it is given, depends on whether an
address is known: whoever asks gets a request, and the owner of the address a message.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from control.config import Config
from control.errors import InvalidInput
from control.rates.limiter import Rate, RateLimiter, Verdict
from control.subscribers.channel import Channel
from control.subscribers.links import Addresses, Links
from control.subscribers.roster import Component, Roster, Subscriber
from control.subscribers.tokens import CONFIRM_WITHIN, Purpose, Tokens
from control.subscribers.vault import Vault
from control.webhooks.destinations import Destinations
from control.webhooks.signature import new_secret
from service.problems import NOT_CONFIGURED, TOO_OFTEN, Problem

PER_ADDRESS = Rate(5, per_s=3600, burst=3)
"""Requests for one address: each sends its owner a message."""

_HOUR_S = 3600


@dataclass(frozen=True)
class Asked:
    """A request that was taken: until when it can be confirmed, and the ``secret`` of a webhook,
    which is shown this once."""

    channel: Channel
    expires_at: datetime
    secret: str | None


class Subscriptions:
    """``ring`` tells the workers that something waits."""

    def __init__(
        self,
        config: Config,
        vault: Vault,
        tokens: Tokens,
        roster: Roster,
        *,
        limiter: RateLimiter,
        destinations: Destinations,
        ring: Callable[[], Awaitable[None]],
    ) -> None:
        self._section = config.notify
        self._vault = vault
        self._tokens = tokens
        self._roster = roster
        self._limiter = limiter
        self._destinations = destinations
        self._ring = ring
        self._links = Links(config.status_page.url, tokens)
        self._per_client = Rate(
            self._section.per_hour, _HOUR_S, burst=max(1, int(self._section.per_hour / 2))
        )
        self._all_sms = Rate(self._section.sms_per_hour, _HOUR_S)

    @property
    def offered(self) -> list[Channel]:
        """The channels that can be subscribed to here, the likeliest first."""
        if not (self._vault.ready and self._links.ready):
            return []
        offered = {Channel.EMAIL: self._section.mails, Channel.SMS: self._section.texts}
        return [channel for channel in Channel if offered.get(channel, True)]

    async def components(self) -> list[Component]:
        """What can be chosen from, in order."""
        return await self._roster.components()

    async def ask(
        self, channel: Channel, address: str, components: Sequence[str], client: str
    ) -> Asked:
        """Take a request, and have the owner of ``address`` asked to confirm it.

        Raises :class:`InvalidInput`, and :class:`Problem` where nobody can subscribe or somebody
        does too often.
        """
        self._require(channel)
        address = channel.normal(address)
        await self._require_components(components)
        _within(await self._take("client", client, self._per_client))
        if channel is Channel.WEBHOOK:
            await self._require_public(address)
        identity = channel.identity(address)
        _within(await self._take(channel.value, identity, PER_ADDRESS))
        if channel is Channel.SMS:
            _within(await self._take("all", "sms", self._all_sms))
        secret = new_secret() if channel is Channel.WEBHOOK else None
        made = await self._roster.request(channel, address, components, secret)
        await self._ring()
        return Asked(channel, made.created_at + CONFIRM_WITHIN, secret)

    async def confirm(self, token: str) -> Subscriber | None:
        """What the owner of an address confirms; ``None`` where it is too late for that.

        Raises :class:`BadToken`.
        """
        return await self._roster.confirm(self._named(token, "confirm"))

    async def get(self, token: str, *purposes: Purpose) -> Subscriber | None:
        """The subscription of a token for one of ``purposes``. Raises :class:`BadToken`."""
        return await self._roster.get(self._named(token, *purposes))

    async def change(self, token: str, components: Sequence[str]) -> Subscriber | None:
        """Choose other components. Raises :class:`BadToken` and :class:`InvalidInput`."""
        subscriber = self._named(token, "manage")
        await self._require_components(components)
        return await self._roster.change(subscriber, components)

    async def end(self, token: str) -> None:
        """End the subscription of a token; one that has ended stays so. Raises BadToken."""
        await self._roster.remove(self._named(token, "manage"))

    def check(self, token: str) -> None:
        """Raises :class:`BadToken` for a token that cannot manage a subscription."""
        self._named(token, "manage")

    def addresses(self, subscriber: Subscriber) -> Addresses:
        """Where a subscription is managed."""
        since = subscriber.confirmed_at or subscriber.created_at
        return self._links.of(subscriber.id, "/status", since)

    def _named(self, token: str, *purposes: Purpose) -> str:
        return self._tokens.read(token, *purposes).subscriber

    def _require(self, channel: Channel) -> None:
        for ready, setting in (
            (self._vault.ready, "DRAWBRIDGE_SUBSCRIBER_SECRET"),
            (self._links.ready, "DRAWBRIDGE_STATUS_URL"),
        ):
            if not ready:
                raise Problem(
                    NOT_CONFIGURED, "Nobody can subscribe here yet.", {"setting": setting},
                    status=503,
                )  # fmt: skip
        if channel not in self.offered:
            raise InvalidInput(f"must be one of {', '.join(self.offered)} here", "channel")

    async def _require_components(self, wanted: Sequence[str]) -> None:
        if not wanted:
            return
        known = [each.id for each in await self._roster.components()]
        for one in wanted:
            if one not in known:
                raise InvalidInput(f"must be of {', '.join(known)}", "components")

    async def _require_public(self, url: str) -> None:
        try:
            await self._destinations.check(url)
        except ValueError as error:
            raise InvalidInput(str(error), "address") from None

    async def _take(self, scope: str, who: str, rate: Rate) -> Verdict:
        """From an allowance that is named by a digest: neither address is readable in Redis."""
        digest = self._vault.index(scope, who).hex()[:32]
        return await self._limiter.take(f"subscribe-{scope}", digest, rate)


def _within(verdict: Verdict) -> None:
    """Raises :class:`Problem` 429. Which allowance it was is nobody's business."""
    if not verdict:
        wait_s = max(1, verdict.retry_after_s)
        raise Problem(
            TOO_OFTEN, "Too many subscriptions were asked for of late.", {"retry_after_s": wait_s},
            {"Retry-After": str(wait_s)},
        )  # fmt: skip
