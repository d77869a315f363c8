"""Carries messages to webhooks, signed with the secret that each subscriber has of its own."""

from control.webhooks.sender import GONE, NotAnswered, Sender
from control.webhooks.signature import Signer
from worker.notify.delivery import Delivery, Gone, Postponed, Refused
from worker.notify.letters import Letters


class Webhooks:
    """By ``sender``, which somebody else closes, and which goes to no private address."""

    def __init__(self, sender: Sender, letters: Letters) -> None:
        self._sender = sender
        self._letters = letters

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def carry(self, delivery: Delivery) -> None:
        """Post it once."""
        if delivery.secret is None:
            raise Refused("it has no secret to sign with")
        body = self._letters.event(delivery)
        try:
            answer = await self._sender.post(
                delivery.address, delivery.id, body, Signer([delivery.secret])
            )
        except NotAnswered as error:
            raise (Refused if error.final else Postponed)(str(error)) from None
        if answer.status == GONE:
            raise Gone("answered 410: gone")
        if not answer.taken:
            raise Postponed(f"answered {answer.status}", answer.retry_after_s)
