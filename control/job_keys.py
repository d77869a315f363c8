"""The names of the job engine's keys and channels, for one shard of the jobs.

Mostly there is one, ``{jobs}``. On a Redis Cluster there may be several, ``{jobs:0}``,
``{jobs:1}``, …, each of which lies on one master. A kind belongs to one of them, with all that must
change together: its queue entries, listings, slots, schedules and keys. The last character of a run
id tells the shard, so that a job is found by its id alone.
"""

import re
import zlib
from dataclasses import dataclass

MOST_SHARDS = 32
"""As many as there are characters of an id."""

_ONE = "drawbridge:{jobs}:"
_SHARD = re.compile(r"drawbridge:\{jobs:\d{1,2}\}:")


@dataclass(frozen=True)
class JobKeys:
    """Those that begin with ``prefix``; the scripts get it as ``KEYS[1]``."""

    prefix: str = _ONE

    @property
    def flags(self) -> str:
        """The flags as the scripts read them."""
        return f"{self.prefix}flags"

    @property
    def kinds(self) -> str:
        """The kinds that were ever submitted."""
        return f"{self.prefix}kinds"

    @property
    def schedules(self) -> str:
        """The periodic kinds by their next run."""
        return f"{self.prefix}schedules"

    @property
    def cancel_channel(self) -> str:
        """Carries the run id of a running job that is to be cancelled; every worker listens."""
        return f"{self.prefix}cancel"

    @property
    def due_channel(self) -> str:
        """Carries the millisecond at which a newly scheduled job is due, if it is the earliest."""
        return f"{self.prefix}due"

    def queue(self, lane: str, priority: str) -> str:
        """The stream of one lane and priority."""
        return f"{self.prefix}queue:{lane}:{priority}"

    def offers(self, lane: str) -> str:
        """The workers that wait for jobs of a lane, each with its offer to take some."""
        return f"{self.prefix}offers:{lane}"

    def call_channel(self, lane: str, worker: str) -> str:
        """Calls a worker that waits: ``number of its offer LF``, and perhaps a job behind that."""
        return f"{self.prefix}call:{lane}:{worker}"

    @property
    def handed(self) -> str:
        """The jobs that a call brought, until the worker says that they came."""
        return f"{self.prefix}handed"

    def index(self, kind: str, status: str | None = None) -> str:
        """The sorted set of a kind's jobs; of those in a status that has a listing of its own."""
        return f"{self.prefix}index:{kind}:{status}" if status else f"{self.prefix}index:{kind}"

    def slots(self, kind: str) -> str:
        """The runs of a limited kind."""
        return f"{self.prefix}slots:{kind}"

    def held(self, kind: str) -> str:
        """The jobs of a limited kind that wait for one of these to end."""
        return f"{self.prefix}held:{kind}"

    def job(self, run_id: str) -> str:
        """All that is stored of a job."""
        return f"{self.prefix}job:{run_id}"

    def schedule(self, kind: str) -> str:
        """When a periodic kind runs."""
        return f"{self.prefix}schedule:{kind}"

    def events_channel(self, run_id: str) -> str:
        """Carries each event of one job that is followed as ``revision LF type LF data``."""
        return f"{self.prefix}job:{run_id}:events"


def shards(count: int) -> tuple[JobKeys, ...]:
    """The keys of each of ``count`` shards."""
    if count == 1:
        return (JobKeys(),)
    return tuple(JobKeys(f"drawbridge:{{jobs:{number}}}:") for number in range(count))


def shard_of_kind(kind: str, count: int) -> int:
    """Where jobs of a kind are made; of ``count`` shards."""
    return zlib.crc32(kind.encode()) % count


def unsharded(key: str) -> str:
    """What ``key`` would be called if there were one shard."""
    return _SHARD.sub(_ONE, key, count=1)
