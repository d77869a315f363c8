"""What a submission may name as its ``callback_url``."""

import asyncio
from collections.abc import Sequence

from control.delivery_settings import CallbacksSection
from control.errors import InvalidInput
from control.webhooks.destinations import Destinations
from service.problems import INVALID, Problem

_FIELD = "callback_url"


class Callbacks(Destinations):
    """Looks at URLs when they are named; workers look again when they connect."""

    def __init__(self, section: CallbacksSection) -> None:
        super().__init__(section.networks)
        self._signed = bool(section.secrets)

    async def require(self, urls: Sequence[str | None], *, numbered: bool = False) -> None:
        """Refuse the first that cannot be called; ``numbered``: its place is told as ``index``.

        Raises :class:`InvalidInput`, or :class:`Problem` with the index.
        """
        named = list(dict.fromkeys(url for url in urls if url is not None))
        faults = await asyncio.gather(*(self._fault(url) for url in named))
        for url, fault in zip(named, faults, strict=True):
            if fault and numbered:
                at = urls.index(url)
                members = {"field": _FIELD, "index": at}
                raise Problem(INVALID, f"Job {at} of the batch: {_FIELD}: {fault}", members)
            if fault:
                raise InvalidInput(fault, _FIELD)

    async def _fault(self, url: str) -> str:
        """What is wrong with it, if anything."""
        if not self._signed:
            return "callbacks are not set up here: DRAWBRIDGE_CALLBACK_SECRET is not set"
        try:
            await self.check(url)
        except ValueError as error:
            return str(error)
        return ""
