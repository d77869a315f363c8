"""What does not fit a type, told by the name of its field."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from control.errors import InvalidInput

_FIELD = re.compile(r"Object (?:contains unknown|missing required) field `(?P<field>[^`]*)`")
_WHERE = re.compile(r"(?P<message>.*?) - at `(?P<path>[^`]+)`", re.DOTALL)
_STEPS = re.compile(r"\[[^]]*\]|[^.\[]+")


def invalid(error: msgspec.DecodeError, kind: Any) -> InvalidInput:
    """A decoding error of msgspec as ours, always naming the field: ``options.threads``; where
    only certain values fit, as ``kind`` has it, naming them."""
    message = str(error)
    path = ""
    if where := _WHERE.fullmatch(message):
        message = where["message"]
        path = where["path"].removeprefix("$").removeprefix("`").lstrip(".")
    if named := _FIELD.match(message):
        path = f"{path}.{named['field']}".lstrip(".")
        message = "is not known here" if "unknown" in message else "is required"
    elif message.startswith("Invalid enum value") and (allowed := _allowed(kind, path)):
        message += f"; allowed are {', '.join(allowed)}"
    return InvalidInput(message, path or "body")


def _allowed(kind: Any, path: str) -> list[str]:
    """The values that fit at ``path`` of ``kind``; an enumeration's as declared."""
    found = list(_branches(inspect.type_info(kind)))
    for step in _STEPS.findall(path):
        found = [branch for each in found for branch in _below(each, step)]
    values: dict[str, None] = {}
    for each in found:
        if isinstance(each, inspect.EnumType):
            values |= dict.fromkeys(str(member.value) for member in each.cls)
        elif isinstance(each, inspect.LiteralType):
            values |= dict.fromkeys(map(str, each.values))
    return list(values)


def _branches(kind: inspect.Type) -> Iterator[inspect.Type]:
    """What may be there: each type of a union."""
    if isinstance(kind, inspect.Metadata):
        yield from _branches(kind.type)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _branches(each)
    else:
        yield kind


def _below(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """What may be one step further: in a field, or ``[in]`` a collection."""
    match kind:
        case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            for each in kind.fields:
                if each.encode_name == step:
                    yield from _branches(each.type)
        case inspect.DictType():
            yield from _branches(kind.value_type)
        case inspect.TupleType():
            yield from _branches(kind.item_types[int(step[1:-1])])
        case inspect.CollectionType():
            yield from _branches(kind.item_type)
