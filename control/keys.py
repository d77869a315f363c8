"""Every Redis key and channel that Drawbridge uses: its type, its lifetime and its owner.

All keys of the job engine carry the hash tag ``{jobs}``, those of the control plane ``{control}``,
so that a script may touch several of them on a Redis Cluster. What carries no tag is touched alone.
A test finds any key in Redis that is not listed in :data:`INVENTORY`.
"""

import re
from dataclasses import dataclass

from control.job_keys import JobKeys, unsharded

JOBS = JobKeys().prefix
"""What the keys of the job engine begin with, where jobs are not divided into shards."""

CONTROL = "drawbridge:{control}:"
"""What the keys of the control plane begin with."""

RATES = "drawbridge:rate:"
"""What the keys of rate limits begin with; each is touched alone, so they spread over a cluster."""

HEALTH = "drawbridge:{health}:"
"""What the keys of the health checks begin with."""

LANES = ("cpu", "io")
"""CPU-bound kinds and asynchronous kinds wait in queues of their own."""

PRIORITIES = ("high", "normal", "low")
"""In the order in which they are served."""

RETURNED = "returned"
"""The queue of jobs that a worker had and gave back or lost; served before all priorities."""

QUEUES = (RETURNED, *PRIORITIES)

LISTED = ("scheduled", "failed", "cancelled")
"""The statuses that are rare enough to have listings of their own."""


@dataclass(frozen=True)
class Key:
    """One entry of the inventory. ``<…>`` in the pattern stands for any text."""

    pattern: str
    type: str
    lifetime: str
    owner: str
    holds: str

    def matches(self, key: str) -> bool:
        """Whether ``key`` is of this kind."""
        parts = (re.escape(part) for part in re.split(r"<[^>]+>", self.pattern))
        return re.fullmatch("[^:]+".join(parts), key) is not None


INVENTORY = (
    Key(JOBS + "flags", "hash", "permanent", "control.flags", "the flags as the scripts read them"),
    Key(
        "app_status:<flag>",
        "string",
        "permanent",
        "control.flags",
        "one flag, `true` or `false`, for readers beside Drawbridge",
    ),
    Key(
        "app_status:debounce:<flag>",
        "string",
        "2 s",
        "control.flags",
        "the command that changed the flag last",
    ),
    Key(
        CONTROL + "flags",
        "hash",
        "permanent",
        "control.flags",
        "on a Cluster: the flags where instances listen, written after all other copies",
    ),
    Key(
        "drawbridge:{app_status:<flag>}:flags",
        "hash",
        "permanent",
        "control.flags",
        "on a Cluster: that flag beside `app_status:<flag>`, in the same slot, with its position",
    ),
    Key(
        CONTROL + "shards",
        "string",
        "permanent",
        "control.preflight",
        "on a Cluster: how many shards the jobs are divided into",
    ),
    Key(
        CONTROL + "command:<command_id>:<attempt>",
        "string",
        "5 s while it is carried out, then 60 s",
        "control.flags",
        "the instance that carries a command out, then the event that answered it",
    ),
    Key(
        CONTROL + "command:<command_id>:<attempt>:told",
        "string",
        "0.5 s",
        "control.flags",
        "that the answer to a command was just repeated",
    ),
    Key(
        CONTROL + "leases",
        "zset",
        "a minute after the last report",
        "control.flags",
        "live instances by the millisecond their lease ends",
    ),
    Key(
        CONTROL + "reports",
        "hash",
        "a minute after the last report",
        "control.flags",
        "what each instance last reported",
    ),
    Key(
        CONTROL + "began",
        "string",
        "a minute after the last report",
        "control.flags",
        "the millisecond since which the roll of instances is whole",
    ),
    Key(
        HEALTH + "echo:<instance>",
        "string",
        "10 s",
        "control.health",
        "what an instance wrote last, to read it back",
    ),
    Key(
        CONTROL + "echo:<instance>",
        "string",
        "10 s",
        "control.health",
        "on a Cluster: the same where the control plane lies",
    ),
    Key(
        JOBS + "echo:<instance>",
        "string",
        "10 s",
        "control.health",
        "on a Cluster: the same where jobs lie",
    ),
    Key(
        HEALTH + "turn:<service>",
        "string",
        "the pause between two looks",
        "control.health",
        "the instance that looks at a service of others",
    ),
    Key(
        HEALTH + "seen:<service>",
        "string",
        "three such pauses",
        "control.health",
        "what it found, for the other instances",
    ),
    Key(
        RATES + "<scope>:<who>",
        "string",
        "until the allowance is full again",
        "control.rates",
        "the millisecond at which an allowance will be full again",
    ),
    Key(
        JOBS + "queue:<lane>:<priority>",
        "stream",
        "entries until a job ends",
        "worker.jobs",
        "jobs to run, one entry each; consumer group `workers`, a consumer for each worker",
    ),
    Key(
        JOBS + "offers:<lane>",
        "hash",
        "field until the worker is called, leaves or is lost",
        "worker.jobs",
        "the workers that wait for jobs, each with the number and terms of its offer",
    ),
    Key(
        JOBS + "handed",
        "zset",
        "member until the worker says that it came, or others take the job, after seconds",
        "worker.jobs",
        "jobs that were claimed for a worker and brought to it, by the millisecond of that",
    ),
    Key(
        JOBS + "due",
        "zset",
        "member until it is due",
        "worker.jobs",
        "scheduled jobs by the millisecond they are due",
    ),
    Key(
        JOBS + "ended",
        "zset",
        "member until it is archived, result TTL at most",
        "worker.jobs",
        "jobs that ended, by the millisecond of their end",
    ),
    Key(
        JOBS + "archivist",
        "string",
        "15 s",
        "worker.jobs",
        "the worker that archives",
    ),
    Key(
        JOBS + "schedules",
        "zset",
        "member while a worker declares it, and five minutes",
        "worker.jobs",
        "periodic kinds by the millisecond of their next run",
    ),
    Key(
        JOBS + "schedule:<kind>",
        "hash",
        "as above",
        "worker.jobs",
        "when a periodic kind runs, who said so last, and its last run",
    ),
    Key(
        JOBS + "workers",
        "zset",
        "member until its lease ends",
        "worker.jobs",
        "live workers by the millisecond their lease ends",
    ),
    Key(
        JOBS + "slots:<kind>",
        "set",
        "member while it runs",
        "worker.jobs",
        "the runs of a kind of which only so many may run at once",
    ),
    Key(
        JOBS + "held:<kind>",
        "zset",
        "member until a slot is free",
        "worker.jobs",
        "queued jobs of such a kind that had their turn, by the millisecond that orders them",
    ),
    Key(
        JOBS + "kinds",
        "set",
        "permanent, one member a kind",
        "worker.jobs",
        "kinds that were ever submitted",
    ),
    Key(
        JOBS + "index:<kind>",
        "zset",
        "member until the job's record has expired, and a minute at most",
        "worker.jobs",
        "run ids of a kind, in the order of their making",
    ),
    Key(
        JOBS + "index:<kind>:<status>",
        "zset",
        "member while in this status; as above after the end",
        "worker.jobs",
        "those that are scheduled, failed or cancelled",
    ),
    Key(
        JOBS + "job:<run_id>",
        "hash",
        "result TTL after the end",
        "worker.jobs",
        "a job: what was asked for, its state, progress, checkpoint and result",
    ),
    Key(
        JOBS + "unique:<digest>",
        "string",
        "until its job ends",
        "worker.jobs",
        "the run id of the one live job that has a unique key",
    ),
    Key(
        JOBS + "idem:<digest>",
        "hash",
        "result TTL",
        "worker.jobs",
        "the job that an Idempotency-Key made",
    ),
)
"""Keys, by owner."""


_OF_JOBS = JobKeys(JOBS)
queue, offers, index, slots = _OF_JOBS.queue, _OF_JOBS.offers, _OF_JOBS.index, _OF_JOBS.slots
held, job, schedule = _OF_JOBS.held, _OF_JOBS.job, _OF_JOBS.schedule
events_channel = _OF_JOBS.events_channel
FLAGS, KINDS, SCHEDULES = _OF_JOBS.flags, _OF_JOBS.kinds, _OF_JOBS.schedules
CANCEL_CHANNEL, DUE_CHANNEL = _OF_JOBS.cancel_channel, _OF_JOBS.due_channel
call_channel = _OF_JOBS.call_channel
DUE = JOBS + "due"
HANDED = _OF_JOBS.handed
ENDED = JOBS + "ended"
ARCHIVIST = JOBS + "archivist"
WORKERS = JOBS + "workers"
"""All these are of the one shard that there mostly is; see :mod:`control.job_keys`."""

HOME_FLAGS = CONTROL + "flags"
LEASES = CONTROL + "leases"
REPORTS = CONTROL + "reports"
BEGAN = CONTROL + "began"
SHARDS = CONTROL + "shards"

COMMANDS_CHANNEL = "drawbridge:commands"
"""Carries commands; every instance listens, one carries each out."""

EVENTS_CHANNEL = "drawbridge:events"
"""Carries the whole document after each change, and its position each second."""

OUTBOX_CHANNEL = "drawbridge:outbox"
"""Says that something waits in the outbox; the message itself means nothing."""

REPLICAS_CHANNEL = "drawbridge:replicas"
"""Carries the report of an instance whose state changed, for whoever waits for the fleet."""


def status(flag: str) -> str:
    """One flag, for readers beside Drawbridge."""
    return f"app_status:{flag}"


def status_copy(flag: str) -> str:
    """On a Cluster, what tells which position :func:`status` is of: its tag puts it into the same
    slot."""
    return f"drawbridge:{{{status(flag)}}}:flags"


def debounce(flag: str) -> str:
    """While it exists, the flag may not change again."""
    return f"app_status:debounce:{flag}"


def command(command_id: str, attempt: str) -> str:
    """Who carries a command out, then its answer. Each attempt under one id has a key of its own,
    so that the answer to one is never given for another."""
    return f"{CONTROL}command:{command_id}:{attempt}"


def echo(instance: str, beside: str = HEALTH) -> str:
    """Where an instance writes to see whether Redis takes and keeps what it is given; on a Cluster,
    whether the server does that has the keys which begin with ``beside``."""
    return f"{beside}echo:{instance}"


def turn(service: str) -> str:
    """While it exists, nobody else looks at a service of others."""
    return f"{HEALTH}turn:{service}"


def seen(service: str) -> str:
    """What the last look at a service of others found."""
    return f"{HEALTH}seen:{service}"


def rate(scope: str, who: str) -> str:
    """The allowance that somebody has for something."""
    return f"{RATES}{scope}:{who}"


def is_listed(key: str) -> bool:
    """Whether the inventory knows ``key``, in whichever shard."""
    plain = unsharded(key)
    return any(entry.matches(plain) for entry in INVENTORY)
