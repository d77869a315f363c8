"""Who holds a delivery."""

import msgspec

CLAIM_S = 60
"""How long a claim holds: longer than any attempt takes."""


class Claim(msgspec.Struct, frozen=True):
    """A delivery that somebody holds; ``claim`` is the number that a later one makes void."""

    notice: str
    subscriber: str
    claim: int

    @property
    def message_id(self) -> str:
        """The id of the message: the same however often it is sent."""
        return f"{self.notice}-{self.subscriber}"
