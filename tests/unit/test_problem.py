"""What a submission may ask for, and the quick look at its model."""

import contextlib
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.errors import InvalidInput
from tests.models.hard import wide_knapsacks
from worker.jobs import kinds
from worker.optimize import lp, mps

MODELS = Path(__file__).parents[1] / "models"
SHARED = Path(__file__).parents[2].parent / "shared" / "instances"
OPTIMIZE = kinds.load([]).get("optimize")

SMALL = """\
* a comment
NAME          SMALL
OBJSENSE
    MAX
ROWS
 N  GAIN
 L  CAP
 E  BAL
COLUMNS
    M1        'MARKER'                 'INTORG'
    X         GAIN               3.0   CAP                1.0
    X         BAL               -1.0
    M2        'MARKER'                 'INTEND'
    Y         GAIN               2.0   BAL             1.0D+0
RHS
    RHS       CAP               10.0   BAL                 0.
RANGES
    RNG       CAP                2.5
BOUNDS
 UP BND       X                  1e30
 MI BND       Y
ENDATA
"""


def validated(problem: Any, **options: Any) -> bytes:
    assert OPTIMIZE is not None
    return OPTIMIZE.validated({"problem": problem, "options": options})


def refused(value: dict[str, Any]) -> InvalidInput:
    assert OPTIMIZE is not None
    with pytest.raises(InvalidInput) as caught:
        OPTIMIZE.validated(value)
    return caught.value


def spoilt(old: str, new: str) -> InvalidInput:
    assert old in SMALL
    with pytest.raises(InvalidInput) as caught:
        mps.check(SMALL.replace(old, new, 1))
    return caught.value


@pytest.mark.parametrize("path", sorted([*MODELS.glob("*.mps"), *SHARED.glob("*.mps")]), ids=str)
def test_real_models_pass(path: Path) -> None:
    validated({"format": "mps", "content": path.read_text()})


def test_every_bit_of_mps_passes() -> None:
    mps.check(SMALL)
    mps.check(SMALL.replace("\n", "\r\n"))
    mps.check(SMALL.removesuffix("\n"))
    mps.check("\ufeff" + SMALL)
    mps.check(SMALL + "what comes after the end\x00 is nobody's business")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("OBJSENSE\n    MAX\n", "OBJSENSE MAX\n"),
        ("OBJSENSE\n    MAX\n", "objsense\n maximize\n"),
        ("OBJSENSE\n    MAX\n", ""),
        ("NAME          SMALL\n", ""),
        ("NAME          SMALL\n", "NAME with more words than one\n"),
        ("    RHS       CAP  ", "              CAP  "),
        ("    RHS       CAP               10.0   BAL                 0.", " CAP -7"),
        ("RHS\n    RHS  ", "RHS\n    RHS SMALL CAP 1\n    RHS  "),
        ("    RHS       CAP               10.0", "    RHS       CAP               Inf "),
        (" UP BND       X                  1e30", " UP X +Infinity"),
        (" MI BND       Y", " FR BND Y\n BV B X\n PL X\n SC B X 3\n SI B X 3\n LI B X 0\n FX Y .5"),
        ("BOUNDS\n", "\n*\n\t\nBOUNDS\n"),
        ("ENDATA", "QUADOBJ\n X X 1.0\nENDATA"),
        ("M1        'MARKER'                 'INTORG'", "MARKER 'MARKER' 'INTORG'"),
    ],
)
def test_its_variants_pass(old: str, new: str) -> None:
    assert old in SMALL
    mps.check(SMALL.replace(old, new, 1))


def test_names_with_spaces_pass_in_fixed_format() -> None:
    mps.check(
        "NAME\nROWS\n N  MY COST\n G  ROW 1\nCOLUMNS\n"
        "    COL 1     MY COST            1.0   ROW 1              1.0\n"
        "RHS\n    MY RHS    ROW 1              1.0\nBOUNDS\n UP MY BND    COL 1              4.0\n"
        "ENDATA\n"
    )


def test_names_beyond_ascii_pass_and_stay_apart() -> None:
    mps.check("ROWS\n N köst\n G kost\n G k\u00a0st\nCOLUMNS\n é köst 1 k\u00a0st 2\nENDATA\n")


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("ENDATA\n", "", "line 21", "without ENDATA"),
        (SMALL[SMALL.index("    X         BAL") :], "    X  ", "line 12", "without ENDATA"),
        ("ROWS", "RWOS", "line 5", "no section 'RWOS'"),
        ("ROWS", "    stray line\nROWS", "line 5", "OBJSENSE is MAX or MIN"),
        ("NAME ", "stray line\nNAME ", "line 2", "before the first section"),
        ("    MAX", "    LARGE", "line 4", "MAX or MIN, not 'LARGE'"),
        ("OBJSENSE\n", "OBJSENSE MAXIMIZE\n", "line 3", "write OBJSENSE MAX"),
        (" L  CAP", " X  CAP", "line 7", "of type N, E, L or G"),
        (" L  CAP", " L", "line 7", "no name"),
        (" E  BAL", " E  CAP", "line 8", "'CAP' is there already"),
        ("GAIN               3.0", "GAIN               3,0", "line 11", "'3,0' is not a number"),
        ("GAIN               3.0", "GAIN               nan", "line 11", "'nan' is not a number"),
        ("GAIN               3.0", "GAIN               inf", "line 11", "'inf' must be finite"),
        ("GAIN               3.0", "GAIN               1e999", "line 11", "too large"),
        ("GAIN               3.0", "GAIN               1_0", "line 11", "'1_0' is not a number"),
        ("GAIN               3.0", "COST               3.0", "line 11", "no row 'COST'"),
        ("BAL               -1.0", "BAL", "line 12", "needs a row and a value"),
        ("BAL             1.0D+0", "BAL", "line 14", "no value for the row 'BAL'"),
        ("    Y  ", "    Z  GAIN 1\n    X  ", "line 15", "'X' is there already"),
        ("'INTORG'", "'INTEND'", "line 10", "out of place"),
        ("CAP               10.0", "CAP               1x.0", "line 16", ""),
        ("BAL                 0.", "BAL                nan", "line 16", "'nan'"),
        ("CAP                2.5", "CAP                NaN", "line 18", "'NaN'"),
        ("1e30", "nan", "line 20", "'nan'"),
        (" UP BND       X                  1e30", " UP X", "line 20", "a column and a value"),
        ("BND       Y", "BND       'MARKER' Y", "line 21", "belongs in COLUMNS"),
        (" MI BND", " XX BND", "line 21", "no bound of type 'XX'"),
        ("BOUNDS", "SOS", "line 19", "does not support the section SOS"),
        ("BOUNDS", "INDICATORS", "line 19", "does not support the section INDICATORS"),
        ("GAIN               3.0", "GAIN \x00             3.0", "line 11", "control character"),
    ],
)
def test_spoilt_mps_is_refused_naming_the_line(
    old: str, new: str, where: str, message: str
) -> None:
    error = spoilt(old, new)
    assert message in str(error)
    assert error.where == where


@pytest.mark.parametrize("text", ["", " \n\n ", "\ufeff", "ENDATA\n", "ROWS\nENDATA\n"])
def test_empty_mps_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        mps.check(text)


LINES = st.sampled_from(SMALL.splitlines()) | st.text(max_size=30)


@given(st.lists(LINES, max_size=30).map("\n".join) | st.text())
def test_the_look_at_mps_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        mps.check(text)


WORDS = st.sampled_from(["Minimize", "st", "End", "nan", "inf", "x", "3", "<=", ":", "\\", "\n"])


@given(st.lists(WORDS | st.text(max_size=5), max_size=30).map(" ".join) | st.text())
def test_the_look_at_lp_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        lp.check(text)


@pytest.mark.parametrize(
    "text",
    [
        "minimize\n x\nend",
        "\ufeffminimize\n x\nend",
        "\\ a comment\n\nMAXIMIZE obj: 3 x + banana\nSubject To\n c1: x - y <= +inf\nEnd\n",
        "min\nobj: x\nst\n c: x >= -Infinity\nbounds\n -inf <= x <= 1e30\nEND\n\\ nan is fine\n",
        "max\r\n x\r\nst\r\n c: x <= 1\r\nend\r\n\r\n",
    ],
)
def test_lp_passes(text: str) -> None:
    lp.check(text)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "problem.content", "empty"),
        ("\ufeff", "problem.content", "empty"),
        ("\\ only a comment\n", "problem.content", "empty"),
        ("subject to\n c: x >= 1\nend\n", "line 1", "begins with Minimize or Maximize"),
        ("märz\n x\nend\n", "line 1", "begins with Minimize or Maximize, not with 'märz'"),
        ("minimise\n x\nend\n", "line 1", "begins with Minimize or Maximize"),
        ("max: 3x+2y;\nend\n", "line 1", "begins with Minimize or Maximize"),
        ("min\n x\nst\n c: x >= nan\nend\n", "line 4", "nan is no number"),
        ("min\n 3 nancy\nend\n", "line 2", "'nancy' as a number"),
        ("min\n x + info\nend\n", "line 2", "'info' as a number"),
        ("min\n x\nst\n c: x >= 1\n\n", "line 4", "without End"),
        ("min\n x\nst\n c: x >= 1\nen", "line 5", "without End"),
        ("min\n x\x01\nend", "line 2", "control character"),
    ],
)
def test_spoilt_lp_is_refused_naming_the_line(text: str, where: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        lp.check(text)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({}, "problem"),
        ({"problem": {}}, "problem.format"),
        ({"problem": {"format": "sav", "content": ""}}, "problem.format"),
        ({"problem": {"format": "mps"}}, "problem.content"),
        ({"problem": {"format": "mps", "content": 3}}, "problem.content"),
        ({"problem": {"format": "mps", "content": SMALL, "name": "x"}}, "problem.name"),
        ({"problem": {"format": "network", "network": "ro/ads"}}, "problem.network"),
        ({"problem": {"format": "network"}}, "problem.network"),
        (
            {"problem": {"format": "lp", "content": "min\n x\nend\n"}, "write_back": True},
            "write_back",
        ),
        ({"problem": {"format": "lp", "content": "min\n x\n"}}, "line 2"),
        ({"problem": {"format": "lp", "content": ""}}, "problem.content"),
        ({"problem": {"format": "mps", "content": " \n"}}, "problem.content"),
    ],
)
def test_a_wrong_problem_is_refused_naming_the_field(value: dict[str, Any], where: str) -> None:
    assert refused(value).where == where


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"time_limit_s": 0}, "options.time_limit_s"),
        ({"time_limit_s": math.nan}, "options.time_limit_s"),
        ({"time_limit_s": math.inf}, "options.time_limit_s"),
        ({"mip_rel_gap": -0.1}, "options.mip_rel_gap"),
        ({"mip_rel_gap": math.nan}, "options.mip_rel_gap"),
        ({"threads": 0}, "options.threads"),
        ({"threads": 1.5}, "options.threads"),
        ({"seed": -1}, "options.seed"),
        ({"seed": 2**31}, "options.seed"),
        ({"presolve": "off"}, "options.presolve"),
    ],
)
def test_a_wrong_option_is_refused_naming_it(options: dict[str, Any], where: str) -> None:
    value = {"problem": {"format": "mps", "content": SMALL}, "options": options}
    assert refused(value).where == where


def test_options_may_be_left_out() -> None:
    validated({"format": "mps", "content": SMALL})
    validated({"format": "mps", "content": SMALL}, time_limit_s=3, mip_rel_gap=0, threads=2, seed=0)


def test_a_network_is_named_and_its_flow_may_be_written_back() -> None:
    assert OPTIMIZE is not None
    problem = {"format": "network", "network": "roads"}
    text = OPTIMIZE.validated({"problem": problem, "write_back": True})
    assert OPTIMIZE.decode(text).write_back


def test_the_look_is_quick() -> None:
    """Some 10 MB a second on an idle machine; a tenth of that on one that is busy."""
    text = wide_knapsacks(columns=1_000)
    began = time.process_time()
    mps.check(text)
    assert len(text) / (time.process_time() - began) > 1e6
