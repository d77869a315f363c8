"""Jobs that a running job submits: they name it as their parent, and belong to the same request."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from control.errors import InvalidInput
from worker.context import Terms
from worker.jobs.job import Claim, NewJob, Spec, priority_name
from worker.jobs.kinds import Kinds
from worker.jobs.manager import JobStateManager


@dataclass(frozen=True)
class Children:
    """Submits the children of one run."""

    jobs: JobStateManager
    kinds: Kinds
    parent: Claim

    async def __call__(self, kind: str, payload: Any, terms: Terms) -> str:
        """Submit a job; its run id.

        Raises :class:`LookupError` for a kind that the worker does not know, :class:`InvalidInput`,
        and what :meth:`JobStateManager.create_job` raises.
        """
        return (await self.jobs.create_job(self._new(kind, payload, terms))).run_id

    def _new(self, name: str, payload: Any, terms: Terms) -> NewJob:
        kind, parent = self.kinds.get(name), self.parent
        if kind is None:
            raise LookupError(f"no job kind is named {name!r}: is its module in DRAWBRIDGE_JOBS?")
        value = kind.decode(msgspec.json.encode(payload))
        text = kind.packed(value)
        run_at_ms = None
        if terms.run_at is not None:
            if terms.run_at.tzinfo is None:
                raise InvalidInput("must have a time zone", "run_at")
            run_at_ms = int(terms.run_at.timestamp() * 1000)
        unique = terms.unique or (kind.unique(value) if kind.unique else None)
        spec = Spec(
            kind=kind.name, lane=kind.lane, priority=priority_name(terms.priority),
            max_attempts=terms.max_attempts or kind.max_attempts,
            timeout_s=terms.timeout_s or kind.timeout_s, run_at_ms=run_at_ms, unique=unique,
            correlation_id=parent.spec.correlation_id, traceparent=parent.spec.traceparent,
            submitted_by=parent.spec.submitted_by, parent=parent.run_id,
        )  # fmt: skip
        key = None if terms.key is None else f"{parent.run_id}\n{terms.key}"
        digest = sha256(text).hexdigest()
        return NewJob(
            run_id=self.jobs.new_id(name), spec=spec, payload=text, idempotency_key=key,
            digest=digest,
        )  # fmt: skip
