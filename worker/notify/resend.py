"""E-mails through Resend's API: https://resend.com/docs/api-reference/emails/send-email."""

from control.clock import Clock
from control.delivery_settings import NotifySection
from worker.notify.delivery import Delivery, Refused
from worker.notify.letters import Letters
from worker.notify.mail import headers_of
from worker.notify.provider import Provider

_KNOWN_KEY = "invalid_idempotent_request"
"""The key was used before, with a body that differs: the message is on its way already."""


class ResendMail:
    """The account and the sender are the section's."""

    def __init__(self, section: NotifySection, letters: Letters, clock: Clock) -> None:
        self._sender = section.mail_from
        self._letters = letters
        headers = {"Authorization": f"Bearer {section.resend_key}"}
        self._api = Provider("Resend", section.resend_url, clock, headers=headers)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._api.aclose()

    async def carry(self, delivery: Delivery) -> None:
        """Have it sent; Resend sends what it gets under one key once (for a day)."""
        letter = self._letters.letter(delivery)
        said = await self._api.ask(
            "POST",
            "/emails",
            json={
                "from": self._sender,
                "to": [delivery.address],
                "subject": letter.subject,
                "text": letter.text,
                "html": letter.html,
                "headers": headers_of(delivery, self._sender),
            },
            headers={"Idempotency-Key": delivery.id},
        )
        if said.good or (said.status == 409 and said.body.get("name") == _KNOWN_KEY):
            return
        if said.status in (400, 422):
            raise Refused(f"Resend refused the message ({said.status})")
        raise self._api.not_now(said)
