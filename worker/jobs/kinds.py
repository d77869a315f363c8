"""Kinds of jobs: declared by :func:`job` in modules that the configuration names.

A kind's module is imported by services (to check payloads) and by workers, so it imports heavy
libraries inside its function. A CPU-bound kind is a plain function that runs in a process of its
own; any other kind is an async function that runs on the worker's loop.
"""

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any, TypeVar, get_type_hints

import msgspec

from control.errors import ConfigError, InvalidInput
from worker.jobs.misfit import invalid
from worker.jobs.schedule import Schedule, declared

Function = TypeVar("Function", bound=Callable[..., Any])
BUILT_IN = (
    "worker.optimize.kind", "worker.ingest.kind", "worker.callback", "worker.notify.kind",
)  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_ANYTHING = (None, type(None), Any, object, inspect.Parameter.empty)
"""What an annotation may be where any JSON will do."""


@dataclass(frozen=True, eq=False)
class Kind:
    """One kind of job.

    ``payload`` is the type that a submission is decoded into (``None``: any JSON); ``check`` looks
    deeper and raises :class:`control.errors.InvalidInput`. ``retry_on`` are the error classes that
    a further attempt may cure. ``concurrency`` is how many of its jobs the whole fleet runs at once
    (``None``: as many as there are slots). ``unique`` gives the unique key of a payload for which
    the submission names none. ``internal``: nobody may submit it from outside. ``schedule``: when
    it runs by itself. ``resources`` is what the worker has opened for its functions. ``graph``: the
    process of a CPU-bound one is told where Neo4j is.
    """

    name: str
    run: Callable[..., Any]
    payload: Any = None
    check: Callable[[Any], None] | None = None
    cpu: bool = False
    max_attempts: int = 3
    timeout_s: float | None = None
    retry_on: tuple[type[BaseException], ...] = ()
    concurrency: int | None = None
    unique: Callable[[Any], str | None] | None = None
    internal: bool = False
    schedule: Schedule | None = None
    graph: bool = False
    resources: Mapping[Any, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def lane(self) -> str:
        """The queue that its jobs wait in."""
        return "cpu" if self.cpu else "io"

    @property
    def unasked(self) -> bytes:
        """The payload of a run that nobody submitted."""
        return b"null" if self.payload is None else b"{}"

    def decode(self, payload: bytes) -> Any:
        """The payload as the kind's type. Raises :class:`InvalidInput` naming the field."""
        try:
            return self._decoder.decode(payload)
        except msgspec.DecodeError as error:
            raise invalid(error, self.payload) from None

    def validated(self, value: Any) -> bytes:
        """``value`` checked and encoded as a payload. Raises :class:`InvalidInput`."""
        if self.payload is not None:
            try:
                value = msgspec.convert(value, self.payload)
            except msgspec.ValidationError as error:
                raise invalid(error, self.payload) from None
        return self.packed(value)

    def packed(self, value: Any) -> bytes:
        """The same for a value that is of the kind's type already."""
        if self.check is not None:
            self.check(value)
        return msgspec.json.encode(value)

    @cached_property
    def _decoder(self) -> "msgspec.json.Decoder[Any]":
        return msgspec.json.Decoder(self.payload or Any)


@dataclass
class Kinds:
    """The kinds that this process knows, by name."""

    _known: dict[str, Kind] = field(default_factory=dict)

    def add(self, kind: Kind) -> None:
        """Register ``kind``. Raises :class:`ConfigError` where its name is taken."""
        if kind.name in self._known:
            raise ConfigError(f"two job kinds are named {kind.name!r}")
        self._known[kind.name] = kind

    def get(self, name: str) -> Kind | None:
        """The kind of that name."""
        return self._known.get(name)

    def required(self, name: str) -> Kind:
        """A built-in kind."""
        return self._known[name]

    def submittable(self) -> "Kinds":
        """Those that callers may submit."""
        return Kinds({kind.name: kind for kind in self if not kind.internal})

    def given(self, resources: Mapping[Any, Any]) -> "Kinds":
        """The same kinds, for a worker that has opened ``resources``."""
        return Kinds({kind.name: replace(kind, resources=resources) for kind in self})

    def limited(self, concurrency: Iterable[str]) -> "Kinds":
        """The same kinds, with the limits that ``concurrency`` (``kind=number``) says instead.

        Raises :class:`ConfigError` for a kind that is not known.
        """
        known = dict(self._known)
        for name, _, number in (each.partition("=") for each in concurrency):
            if name not in known:
                raise ConfigError(f"DRAWBRIDGE_CONCURRENCY: no job kind is named {name!r}")
            known[name] = replace(known[name], concurrency=int(number))
        return Kinds(known)

    def limits(self, lane: str) -> dict[str, int]:
        """The kinds of ``lane`` of which only so many may run at once."""
        return {k.name: k.concurrency for k in self if k.lane == lane and k.concurrency}

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._known.values())


def job(
    name: str,
    *,
    cpu: bool = False,
    payload: Any = None,
    check: Callable[[Any], None] | None = None,
    max_attempts: int = 3,
    timeout_s: float | None = None,
    retry_on: tuple[type[BaseException], ...] = (),
    concurrency: int | None = None,
    unique: Callable[[Any], str | None] | None = None,
    internal: bool = False,
    every: str | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    misfire: str | None = None,
    graph: bool = False,
) -> Callable[[Function], Function]:
    """Declare a function ``(context, payload) -> result`` as the kind ``name``.

    ``payload`` is a msgspec Struct, a dataclass, a TypedDict, or whatever else msgspec decodes from
    JSON; where it is not given, the annotation of the function's second parameter says it, and
    without one any JSON will do. A job runs at most ``max_attempts`` times: again after a lost
    worker, and after an error of ``retry_on``; where that has a number ``retry_in_s``, after so
    many seconds. At most ``concurrency`` run at once in the whole fleet; ``DRAWBRIDGE_CONCURRENCY``
    overrides it. While a job with the key that ``unique`` gives for its payload has not ended,
    submitting another gives that one back. Nobody may submit an ``internal`` kind from outside.

    A periodic kind runs by itself, once in the whole fleet for each time: ``every`` span such as
    ``5m``, or by a ``cron`` expression in a ``timezone`` (UTC); ``misfire`` (``once``) says what
    becomes of times that were missed, see :mod:`worker.jobs.schedule`. Its payload must do with
    nothing. With ``graph`` a CPU-bound function finds in its context where Neo4j is. Raises
    :class:`ConfigError` for a declaration that cannot be.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a job kind: use a-z, 0-9, _ . - (at most 64)")

    def declare(function: Function) -> Function:
        _require(name, function, cpu=cpu, max_attempts=max_attempts, timeout_s=timeout_s)
        if concurrency is not None and concurrency < 1:
            raise ConfigError(f"job kind {name!r}: concurrency must be at least 1")
        if not all(isinstance(each, type) and issubclass(each, Exception) for each in retry_on):
            raise ConfigError(f"job kind {name!r}: retry_on takes classes of exceptions")
        expected = _payload_type(name, function) if payload is None else payload
        schedule = declared(name, every=every, cron=cron, timezone=timezone, misfire=misfire)
        kind = Kind(
            name, function, _decodable(name, expected), check, cpu, max_attempts, timeout_s,
            retry_on, concurrency, unique, internal, schedule, graph,
        )  # fmt: skip
        if schedule is not None:
            _require_no_payload(kind)
        function.__drawbridge_kind__ = kind  # type: ignore[attr-defined]
        return function

    return declare


def kind_of(function: Callable[..., Any]) -> Kind:
    """The kind that ``function`` was declared as. Raises :class:`ConfigError`."""
    kind = getattr(function, "__drawbridge_kind__", None)
    if not isinstance(kind, Kind):
        name = getattr(function, "__name__", repr(function))
        raise ConfigError(f"{name} is no job kind: declare it with @job")
    return kind


def load(modules: Iterable[str]) -> Kinds:
    """The built-in kinds and those that ``modules`` declare. Raises :class:`ConfigError`."""
    kinds = Kinds()
    for name in dict.fromkeys((*BUILT_IN, *modules)):
        module = imported(name)
        own = (
            value.__drawbridge_kind__
            for value in vars(module).values()
            if isinstance(getattr(value, "__drawbridge_kind__", None), Kind)
            and value.__module__ == module.__name__
        )
        for kind in {id(kind): kind for kind in own}.values():  # a function may have two names
            kinds.add(kind)
    return kinds


def imported(name: str) -> ModuleType:
    """A module that ``DRAWBRIDGE_JOBS`` names. Raises :class:`ConfigError`, in one line."""
    try:
        return importlib.import_module(name)
    except ConfigError as error:
        raise ConfigError(f"DRAWBRIDGE_JOBS: {name}: {error}") from error
    except ImportError as error:
        raise ConfigError(f"DRAWBRIDGE_JOBS: cannot import {name}: {error}") from error
    except Exception as error:  # the module's own code
        place = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__}: {error} (line {place.lineno} of {place.filename})"
        raise ConfigError(f"DRAWBRIDGE_JOBS: cannot import {name}: {why}") from error


def _require(
    name: str, function: Any, *, cpu: bool, max_attempts: int, timeout_s: float | None
) -> None:
    """Raise :class:`ConfigError` where the function or the figures cannot be a kind's."""
    if not callable(function) or inspect.iscoroutinefunction(function) == cpu:
        raise ConfigError(
            f"job kind {name!r}: a CPU-bound kind is a plain function, any other an async one"
        )
    if len(_parameters(function)) != 2:
        raise ConfigError(f"job kind {name!r}: its function takes (context, payload)")
    if max_attempts < 1:
        raise ConfigError(f"job kind {name!r}: max_attempts must be at least 1")
    if timeout_s is not None and not timeout_s > 0:
        raise ConfigError(f"job kind {name!r}: timeout_s must be above 0")


def _require_no_payload(kind: Kind) -> None:
    """Raise :class:`ConfigError` where a periodic kind cannot run by itself."""
    try:
        kind.decode(kind.unasked)
    except InvalidInput as error:
        raise ConfigError(
            f"job kind {kind.name!r}: runs by itself, so its payload must do with {{}}: {error}"
        ) from None


def _parameters(function: Any) -> tuple[str, ...]:
    """The names of its positional parameters; annotations are not looked at."""
    code = inspect.unwrap(function).__code__
    return tuple(code.co_varnames[: code.co_argcount])


def _payload_type(name: str, function: Any) -> Any:
    """What the second parameter is annotated with. Raises :class:`ConfigError`."""
    second = _parameters(function)[1]
    try:
        written = inspect.get_annotations(function).get(second)
        # Only this one: the context's type is often imported for type checkers alone.
        alone = SimpleNamespace(__annotations__={second: written})
        known = getattr(inspect.unwrap(function), "__globals__", {})
        return get_type_hints(alone, globalns=known, include_extras=True)[second]
    except (NameError, TypeError, SyntaxError) as error:
        raise ConfigError(
            f"job kind {name!r}: the annotation of {second!r} cannot be read ({error}); "
            "define its type before the function, or give it as payload=…"
        ) from None


def _decodable(name: str, payload: Any) -> Any:
    """``payload`` as a kind keeps it. Raises :class:`ConfigError` for what JSON cannot become."""
    if any(payload is each for each in _ANYTHING):
        return None
    try:
        msgspec.json.Decoder(payload)
        msgspec.json.schema(payload)
    except (TypeError, NameError) as error:
        why = str(error).splitlines()[-1]
        raise ConfigError(
            f"job kind {name!r}: its payload must be a msgspec Struct, a dataclass, a TypedDict or "
            f"of what these hold: {why}"
        ) from None
    return payload
