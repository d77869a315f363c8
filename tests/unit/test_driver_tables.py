"""What the Neo4j driver's tables held is computed, and is the same."""

import struct
import subprocess
import sys

import neo4j.time
import pytest
from neo4j._codec.packstream import v1

from control.stores import graph
from control.stores.driver_tables import Computed

assert graph  # importing it has replaced the tables


def test_the_tables_say_what_they_said() -> None:
    for year in (neo4j.time.MIN_YEAR, 1900, 2000, 2023, 2024, neo4j.time.MAX_YEAR):
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        assert neo4j.time.Date.is_leap_year(year) is leap
        assert neo4j.time.Date.days_in_year(year) == 365 + leap
        days = [neo4j.time.Date.days_in_month(year, month) for month in range(1, 13)]
        assert days == [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    for number in (0, 1, 255, 256, 0xFFFF):
        assert v1.PACKED_UINT_16[number] == struct.pack(">H", number)
        assert v1.UNPACKED_UINT_16[struct.pack(">H", number)] == number
    assert str(neo4j.time.Date(2024, 2, 29)) == "2024-02-29"


@pytest.mark.parametrize(
    ("table", "key"),
    [
        (neo4j.time._IS_LEAP_YEAR, neo4j.time.MAX_YEAR + 1),
        (neo4j.time._DAYS_IN_YEAR, neo4j.time.MIN_YEAR - 1),
        (neo4j.time._DAYS_IN_MONTH, (2024, 13)),
        (v1.PACKED_UINT_16, 0x10000),
        (v1.UNPACKED_UINT_16, b"1"),
    ],
)
def test_what_they_had_not_they_have_not(table: object, key: object) -> None:
    assert isinstance(table, Computed), "a newer driver has other tables"
    with pytest.raises(KeyError):
        table[key]
    assert not table, "nothing is kept"


def test_a_worker_loads_no_more_than_it_needs() -> None:
    """Megabytes of modules, in each of its replicas."""
    code = "import sys, worker.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert not {"numpy", "rich", "pygments", "highspy", "jinja2"} & set(loaded)
