"""The Neo4j driver without the tables that it fills when it is imported.

They hold what a few instructions compute (the days of a hundred thousand months, every number of
two bytes), and take 22 MB in each process: a quarter of a worker.
Where a later driver has no such table, nothing happens.
"""

import sys
from collections.abc import Callable
from struct import Struct
from types import ModuleType
from typing import Any

_SHORT = Struct(">H")
_LARGEST = 0xFFFF


class Computed(dict[Any, Any]):
    """A table whose values are computed when they are looked up, and not kept.

    ``keys`` says which keys it has; others raise :class:`KeyError`, as in the table.
    """

    def __init__(self, keys: Callable[[Any], bool], value: Callable[[Any], Any]) -> None:
        super().__init__()
        self._keys = keys
        self._value = value

    def __missing__(self, key: Any) -> Any:
        if not self._keys(key):
            raise KeyError(key)
        return self._value(key)


def compute() -> None:
    """Replace the tables of the driver, which is imported."""
    time = sys.modules.get("neo4j.time")
    if time is not None:
        _compute_calendar(time)
    for version in ("v1", "v2"):
        codec = sys.modules.get(f"neo4j._codec.packstream.{version}")
        if codec is not None:
            _replace(
                codec,
                PACKED_UINT_16=Computed(lambda n: 0 <= n <= _LARGEST, _SHORT.pack),
                UNPACKED_UINT_16=Computed(
                    lambda text: len(text) == _SHORT.size, lambda text: _SHORT.unpack(text)[0]
                ),
            )


def _compute_calendar(time: Any) -> None:
    def a_year(year: int) -> bool:
        return bool(time.MIN_YEAR <= year <= time.MAX_YEAR)

    def a_month(month: tuple[int, int]) -> bool:
        return a_year(month[0]) and 1 <= month[1] <= 12

    if hasattr(time, "_is_leap_year"):
        _replace(time, _IS_LEAP_YEAR=Computed(a_year, time._is_leap_year))
    if hasattr(time, "_days_in_year"):
        _replace(time, _DAYS_IN_YEAR=Computed(a_year, time._days_in_year))
    if hasattr(time, "_days_in_month"):
        _replace(time, _DAYS_IN_MONTH=Computed(a_month, lambda m: time._days_in_month(*m)))


def _replace(module: ModuleType, **tables: Computed) -> None:
    for name, table in tables.items():
        if hasattr(module, name):
            setattr(module, name, table)
