"""Names that a model in MPS does not have: HiGHS leaves their lines out and solves the rest."""

import contextlib
import tempfile
from pathlib import Path

import highspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.errors import InvalidInput
from worker.optimize import mps

HEAD = """\
NAME LITTLE
ROWS
 N cost
 G Demand
 L 7
 N spare
COLUMNS
 x cost 1 Demand 1
 x 7 1
 3 cost 2 7 1
"""

SPACED = """\
NAME
ROWS
 N  MY COST
 G  ROW 1
COLUMNS
    COL 1     MY COST            1.0   ROW 1              1.0
RHS
    MY RHS    ROW 1              2.0
BOUNDS
 UP MY BND    COL 1              4.0
ENDATA
"""


def complaints(text: str) -> list[str]:
    """What HiGHS says where it reads ``text``."""
    said: list[str] = []
    highs = highspy.Highs()
    highs.setOptionValue("log_to_console", False)
    highs.setCallback(lambda _kind, message, *_: said.append(message), None)
    highs.startCallbackInt(int(highspy.cb.HighsCallbackType.kCallbackLogging))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.mps")
        path.write_text(text)
        status = highs.readModel(str(path))
    kept = [each for each in said if "WARNING" in each or "ERROR" in each]
    return kept or ([] if status == highspy.HighsStatus.kOk else [str(status)])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("RHS\n rhs demand 4\n", "line 12: there is no row 'demand'"),
        ("RHS\n demand 4\n", "line 12: there is no row 'demand'"),
        ("RHS\n rhs Demand 4 Cost 1\n", "line 12: there is no row 'Cost'"),
        ("RHS\n demand 4 cost 1\n", "line 12: there is no row 'demand'"),
        ("RHS\n rhs Demand 4x\n", "line 12: '4x' is not a number"),
        ("RHS\n rhs Demand 4x demand 5\n", "line 12: '4x' is not a number"),
        ("RHS\n rhs Demand 4 demand\n", "line 12: there is no row 'demand'"),
        ("RHS\n rhs Demand 4 cost\n", "line 12: there is no value for the row 'cost'"),
        ("RHS\n rhs Demand 4 cost 1 7 1\n", "line 12: '7' is too much"),
        ("RHS\n rhs Demand\n", "line 12: 'rhs' needs a row and a value"),
        ("RHS\n 7 Demand 4\n", "line 12: 'Demand' is not a number"),  # the set is taken for a row
        ("RHS\n MY RHS Demand 4\n", "line 12: there is no row 'RHS'"),
        ("RHS\n rhs Demand 4\n rhs Demand 5\n", "line 13: the row 'Demand' has a value in RHS"),
        ("RHS\n rhs spare 4\n", "line 12: 'spare' is not the objective"),
        ("RANGES\n r C 2\n", "line 12: there is no row 'C'"),
        ("RANGES\n Demand 2\n", "line 12: the solver needs the name of a set before 'Demand'"),
        ("RANGES\n r Demand 2 7 1 7\n", "line 12: '7' is too much"),
        ("RANGES\n r 7 2\n r 7 3\n", "line 13: the row '7' has a value in RANGES already"),
        ("RANGES\n r 7 2\nRHS\n r 7 2\n", "line 13: RHS comes before RANGES"),
        ("BOUNDS\n UP bnd X 3\n", "line 12: there is no column 'X'"),
        ("BOUNDS\n UP X 4\n", "line 12: there is no column 'X'"),
        ("BOUNDS\n FR X\n", "line 12: there is no column 'X'"),
        ("BOUNDS\n FR bnd X\n", "line 12: there is no column 'X'"),
        ("BOUNDS\n UP bnd x\n", "line 12: the bound needs a column and a value"),
        ("BOUNDS\n UP MY BND x 3\n", "line 12: there is no column 'BND'"),
        ("BOUNDS\n UP bnd x 3 4\n", "line 12: '4' is too much"),
        ("BOUNDS\n UP bnd x 3x 4\n", "line 12: '3x' is not a number"),
        ("BOUNDS\n FR x y\n", "line 12: 'y' is not a number"),
        ("BOUNDS\n FR bnd\n", "line 12: there is no column 'bnd'"),
        ("BOUNDS\n FR\n", "line 12: the bound needs a column"),
        ("QUADOBJ\n x y 1\n", "line 12: there is no column 'y'"),
        ("QUADOBJ\n y x 1\n", "line 12: there is no column 'y'"),
        ("QSECTION Cost\n x x 1\n", "line 11: there is no row 'Cost'"),
    ],
)
def test_what_is_not_there_is_named(lines: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        mps.check(HEAD + lines + "ENDATA\n")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" x cost 1 Demand 1\n", " x cost 1 demand 1\n", "line 8: there is no row 'demand'"),
        (" x 7 1\n", " x 7 1 Demand\n", "line 9: there is no value for the row 'Demand'"),
        (" x 7 1\n", " x cost 1\n", "line 9: the column 'x' has the row 'cost' already"),
        (" x 7 1\n", " x 7 1 7 1\n", "line 9: the column 'x' has the row '7' already"),
        (" x 7 1\n", " x 7 1 spare 1 7\n", "line 9: '7' is too much"),
        (" G Demand\n", " G Demand here\n", "line 4: 'here' is too much"),
        ("NAME LITTLE", "köln", "line 1: there is no section 'köln'"),
        ("NAME LITTLE", "x\ufeffNAME", r"line 1: there is no section 'x\ufeffNAME'"),
    ],
)
def test_so_is_what_columns_have_too_much(old: str, new: str, message: str) -> None:
    assert old in HEAD
    with pytest.raises(InvalidInput) as caught:
        mps.check(HEAD.replace(old, new, 1) + "ENDATA\n")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "lines",
    [
        "RHS\n rhs Demand 4 cost -3\n RHS 7 9\n",
        "RHS\n Demand 4 cost 3\n 7 9\n",
        "RHS\n rhs LITTLE Demand 4\n",
        "RHS\n LITTLE Demand 4\n",
        "RHS\n rhs spare 0\n",
        "RHS\n rhs cost 3 spare 4\n",
        "RHS\n rhs 7 4 $ a comment of 4 words\n",
        "RHS\n rhs Demand 4\n other 7 5\n",
        "RANGES\n rng 7 4 Demand 5\n",
        "RANGES\n 7 7 4\n",
        "BOUNDS\n UP bnd x 3\n LO x 1\n",
        "BOUNDS\n UP 3 4\n LO bnd 3 1\n",
        "BOUNDS\n UP 5 3 4\n",
        "BOUNDS\n FR x\n BV bnd 3\n",
        "BOUNDS\n FR bnd x 0\n PL bnd x 1e30\n",
        "BOUNDS\n MI x 0\n UP x 4 $ a comment\n",
        "QUADOBJ\n x x 1 3 1\n",
        "QSECTION cost\n x x 1\n",
    ],
)
def test_what_the_solver_reads_right_passes(lines: str) -> None:
    mps.check(HEAD + lines + "ENDATA\n")


def test_names_with_spaces_are_found_in_their_columns() -> None:
    mps.check(SPACED)
    mps.check(
        SPACED.replace("MY RHS    ROW 1              2.0", "          ROW 1     -2.00000000123")
    )
    mps.check(SPACED.replace("N  MY COST", "N  MYCOST ").replace("MY COST", "MYCOST "))
    mps.check(SPACED.replace("COL 1", "CÖ 1"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MY RHS    ROW 1 ", "MY RHS    ROW 2 ", "line 8: there is no row 'ROW 2'"),
        ("MY BND    COL 1 ", "MY BND    Col 1 ", "line 10: there is no column 'Col 1'"),
        ("1.0   ROW 1 ", "1.0   ROW1  ", "line 6: there is no row 'ROW1'"),
        ("1.0   ROW 1 ", "1.0   MY COST", "line 6: the column 'COL 1' has the row 'MY COST'"),
        ("    MY RHS  ", "  MY RHS    ", "line 8: where names hold spaces, all must keep to the"),
        ("    COL 1              4.0", "", "line 10: the bound needs a column and a value"),
        (" UP MY BND", " BV MY BND", "line 10: where names hold spaces, the solver knows no bound"),
        (SPACED[SPACED.index("RHS") : SPACED.index("BOUNDS")], "", "line 7: where names hold"),
    ],
)
def test_and_refused_where_they_are_not(old: str, new: str, message: str) -> None:
    assert old in SPACED
    with pytest.raises(InvalidInput) as caught:
        mps.check(SPACED.replace(old, new, 1))
    assert str(caught.value).startswith(message)


WORDS = st.sampled_from(["x", "3", "X", "7", "cost", "Demand", "demand", "spare", "rhs", "4", "2."])
BOUNDS = st.sampled_from(["UP", "LO", "FR", "BV", "MI"])
NAMED = st.tuples(
    st.sampled_from(["RHS", "RANGES", "BOUNDS", "COLUMNS"]), BOUNDS, st.lists(WORDS, max_size=6)
)


@given(NAMED)
def test_the_solver_complains_of_nothing_that_passes(line: tuple[str, str, list[str]]) -> None:
    section, kind, words = line
    if section == "COLUMNS":
        text = f"{HEAD} y {' '.join(words)}\nENDATA\n"
    else:
        first = f" {kind}" if section == "BOUNDS" else ""
        text = f"{HEAD}{section}\n{first} {' '.join(words)}\nENDATA\n"
    with contextlib.suppress(InvalidInput):
        mps.check(text)
        said = complaints(text)
        assert not said or "not valid: ignored" in said[0], text


LINES = st.sampled_from(SPACED.splitlines()) | st.text(max_size=30)


@given(st.lists(LINES, max_size=15).map((SPACED[:60] + "{}").format) | st.text())
def test_the_look_at_names_with_spaces_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        mps.check(text)
