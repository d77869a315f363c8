"""Kinds of jobs: declared by :func:`job` in modules that the configuration names.

A kind's module is imported by services (to check payloads) and by workers, so it imports heavy
libraries inside its function. A CPU-bound kind is a plain function that runs in a process of its
own; any other kind is an async function that runs on the worker's loop.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from control.errors import ConfigError, InvalidInput

BUILT_IN = ("worker.optimize.kind",)
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(?P<field>[^`]*)`")
_WHERE = re.compile(r"(?P<message>.*?) - at `(?P<path>[^`]+)`", re.DOTALL)


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    ``payload`` is the type that a submission is decoded into (``None``: any JSON); ``check`` looks
    deeper and raises :class:`control.errors.InvalidInput`. ``retry_on`` are the error classes that
    a further attempt may cure.
    """

    name: str
    run: Callable[..., Any]
    payload: Any = None
    check: Callable[[Any], None] | None = None
    cpu: bool = False
    max_attempts: int = 3
    timeout_s: float | None = None
    retry_on: tuple[type[BaseException], ...] = ()

    @property
    def lane(self) -> str:
        """The queue that its jobs wait in."""
        return "cpu" if self.cpu else "io"

    def decode(self, payload: bytes) -> Any:
        """The payload as the kind's type. Raises :class:`InvalidInput` naming the field."""
        try:
            return msgspec.json.decode(payload, type=self.payload or Any)
        except msgspec.DecodeError as error:
            raise invalid(error) from None

    def validated(self, value: Any) -> bytes:
        """``value`` checked and encoded as a payload. Raises :class:`InvalidInput`."""
        if self.payload is not None:
            try:
                value = msgspec.convert(value, self.payload)
            except msgspec.ValidationError as error:
                raise invalid(error) from None
        if self.check is not None:
            self.check(value)
        return msgspec.json.encode(value)


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
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare a function ``(context, payload) -> result`` as the kind ``name``."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a job kind: use a-z, 0-9, _ . - (at most 64)")

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function) == cpu:
            raise ConfigError(
                f"job kind {name!r}: a CPU-bound kind is a plain function, any other an async one"
            )
        kind = Kind(name, function, payload, check, cpu, max_attempts, timeout_s, retry_on)
        function.__drawbridge_kind__ = kind  # type: ignore[attr-defined]
        return function

    return declare


def load(modules: Iterable[str]) -> Kinds:
    """The built-in kinds and those that ``modules`` declare. Raises :class:`ConfigError`."""
    kinds = Kinds()
    for name in (*BUILT_IN, *modules):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(f"DRAWBRIDGE_JOBS: cannot import {name}: {error}") from None
        for value in vars(module).values():
            kind = getattr(value, "__drawbridge_kind__", None)
            if isinstance(kind, Kind) and value.__module__ == module.__name__:
                kinds.add(kind)
    return kinds


def invalid(error: msgspec.DecodeError) -> InvalidInput:
    """A decoding error of msgspec as ours, always naming the field: ``options.threads``."""
    message = str(error)
    path = ""
    if where := _WHERE.fullmatch(message):
        message = where["message"]
        path = where["path"].removeprefix("$").removeprefix("`").lstrip(".")
    if named := _FIELD.match(message):
        path = f"{path}.{named['field']}".lstrip(".")
        message = "is not known here" if "unknown" in message else "is required"
    return InvalidInput(message, path or "body")
