"""What a file of a network is, by its first line."""

import gzip
from pathlib import Path

import pytest

from control.cli.network_files import recognised


@pytest.mark.parametrize(
    ("first", "role"),
    [
        ("id,supply", "nodes"),
        ("\ufeff\"Id\";Supply", "nodes"),
        ("source\ttarget\tcost", "edges"),
        ('\n{"id": "a"}', "ndjson"),
        ("c a comment", "dimacs"),
        ("p min 3 4", "dimacs"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_it_is_known_by_its_first_line(tmp_path: Path, first: str, role: str, packed: bool) -> None:
    path, data = tmp_path / "file", f"{first}\nx".encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    found = recognised(path)
    assert (found.role, found.packed) == (role, packed)


@pytest.mark.parametrize("data", [b"", b"a,b,c\n", b"\x1f\x8bbroken"])
def test_what_is_none_of_them_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"file\.csv"):
        recognised(path)
