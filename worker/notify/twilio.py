"""SMS through Twilio's API: https://www.twilio.com/docs/messaging/api/message-resource.

Twilio knows no idempotency key. So whoever tries again looks first whether the message was
taken after all, by its number and its text.
"""

from datetime import UTC

from aiohttp import encode_basic_auth

from control.clock import Clock
from control.delivery_settings import NotifySection
from worker.notify.delivery import Delivery, Gone, Refused
from worker.notify.letters import Letters
from worker.notify.provider import Provider

_STOPPED = 21610
"""The receiver answered STOP."""

_LOST = frozenset({"failed", "undelivered", "canceled"})
_SERVICE = "MG"
"""What the id of a messaging service begins with, which has numbers of its own to send from."""


class TwilioSms:
    """The account, and the number, name or messaging service to send from, are the section's."""

    def __init__(self, section: NotifySection, letters: Letters, clock: Clock) -> None:
        sid, token, sender = section.twilio_sid, section.twilio_token, section.twilio_from
        self._letters = letters
        self._path = f"/2010-04-01/Accounts/{sid}/Messages.json"
        named = "MessagingServiceSid" if sender.startswith(_SERVICE) else "From"
        self._from = {named: sender}
        headers = {"Authorization": encode_basic_auth(sid, token)}
        self._api = Provider("Twilio", section.twilio_url, clock, headers=headers)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._api.aclose()

    async def carry(self, delivery: Delivery) -> None:
        """Have it sent, unless an earlier attempt has."""
        text = self._letters.sms(delivery)
        if delivery.attempt > 1 and await self._was_taken(delivery, text):
            return
        said = await self._api.ask(
            "POST", self._path, data={"To": delivery.address, "Body": text, **self._from}
        )
        if said.good:
            return
        if said.body.get("code") == _STOPPED:
            raise Gone("its owner answered STOP")
        if said.status in (400, 422):
            raise Refused(f"Twilio refused it ({said.body.get('code', said.status)})")
        raise self._api.not_now(said)

    async def _was_taken(self, delivery: Delivery, text: str) -> bool:
        since = delivery.at.astimezone(UTC).date().isoformat()
        said = await self._api.ask(
            "GET",
            self._path,
            params={"To": delivery.address, "DateSent>": since, "PageSize": "100"},
        )
        if not said.good:
            raise self._api.not_now(said)
        return any(
            isinstance(each, dict) and each.get("body") == text and each.get("status") not in _LOST
            for each in said.body.get("messages", ())
        )
