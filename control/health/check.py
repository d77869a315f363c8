"""What a check is, and what is known of the thing it checks: values without behaviour."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

Probe = Callable[[], Awaitable[Mapping[str, object]]]
"""Asks the thing itself. Returns details it learnt (never secrets); raises if the thing is down,
and :class:`CannotTell` where it could not ask."""

WARNING = "warning"
"""The detail by which a probe that succeeds says, in a word, that not all is well."""


class Down(Exception):
    """A probe's own verdict, in a word or two that may be shown to anybody, and details that it
    learnt nevertheless."""

    def __init__(self, shown_as: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(shown_as)
        self.shown_as = shown_as
        self.details = details


class CannotTell(Exception):
    """A probe did not get to ask the thing itself, so it is neither well nor down; why, in a word
    or two that may be shown to anybody."""

    def __init__(self, shown_as: str) -> None:
        super().__init__(shown_as)
        self.shown_as = shown_as


class Importance(StrEnum):
    """What a failing check means for the whole."""

    REQUIRED = "required"
    DEGRADING = "degrading"
    INFORMATIONAL = "informational"


class State(StrEnum):
    """What is known of one thing."""

    STARTING = "starting"
    OK = "ok"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Check:
    """One thing to be watched.

    A failure shows after ``interval_s`` (and a tenth for jitter) + ``timeout_s`` at the latest,
    a recovery after ``timeout_s`` + ``retry_s``; the defaults keep both under the contract's 3 s.
    """

    name: str
    probe: Probe
    tags: frozenset[str] = frozenset()
    importance: Importance = Importance.REQUIRED
    timeout_s: float = 2.0
    """Hard deadline of one probe, whatever the probe does."""
    interval_s: float = 0.6
    """Pause after a success."""
    retry_s: float = 0.4
    """Pause after a failure, and while it is not settled yet (see ``fall`` and ``rise``)."""
    fall: int = 1
    """So many failures in a row turn what was well down."""
    rise: int = 1
    """So many successes in a row turn what was down well."""
    vouched_s: float = 0.0
    """How long the word of whoever vouches for what is well stands in place of a probe. What is
    vouched for shows its failure ``vouched_s`` + ``timeout_s`` after the last word."""
    unasked_s: float = 5.0
    """After so long it is probed all the same."""

    @property
    def stale_after_s(self) -> float:
        """An answer older than this proves nothing any more: its successor is overdue."""
        return max(1.1 * self.interval_s, self.vouched_s) + self.timeout_s + 1.0


@dataclass(frozen=True)
class Result:
    """What the newest probe of one check found."""

    name: str
    tags: frozenset[str]
    importance: Importance
    state: State = State.STARTING
    reason: str = ""
    """Why the newest probe failed, in a word or two that may be shown to anybody."""
    at: datetime | None = None
    """When that was; where somebody has vouched for it since, when that was."""
    since: datetime | None = None
    """When the present state began."""
    transitions: int = 0
    """How often the state has changed since it was first known."""
    duration_s: float = 0.0
    stale_from: float = float("inf")
    """From this monotonic second on, a success proves nothing any more."""
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def state_at(self, monotonic: float) -> State:
        """The state as one may still believe it."""
        stale = self.state is State.OK and monotonic >= self.stale_from
        return State.UNKNOWN if stale else self.state

    @property
    def warning(self) -> str:
        """What is about to go wrong with a thing that is well; ``""`` where nothing is."""
        return str(self.details.get(WARNING, ""))

    def word_at(self, monotonic: float) -> str:
        """The result in a probe's body: ``ok``, ``starting`` or ``down: <reason>``."""
        match self.state_at(monotonic):
            case State.DOWN:
                return f"down: {self.reason}"
            case State.UNKNOWN:
                return "down: unknown"
            case state:
                return str(state)


@dataclass(frozen=True)
class Snapshot:
    """The newest result of every check, by name, in the order of registration."""

    results: Mapping[str, Result]

    def tagged(self, tag: str) -> tuple[Result, ...]:
        """The results of the checks that carry ``tag``."""
        return tuple(result for result in self.results.values() if tag in result.tags)
