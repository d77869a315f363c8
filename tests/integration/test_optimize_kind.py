"""The optimize kind in real processes: right answers, clear refusals, prompt ends."""

import asyncio
import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.models.hard import market_split, wide_knapsacks
from tests.timing import timed
from worker.cpu.process import CpuProcess, Ended

MODELS = Path(__file__).parents[1] / "models"
SHARED = Path(__file__).parents[2].parent / "shared" / "instances"
LP_TOLERANCE, MIP_TOLERANCE = 1e-6, 1e-4
PROMPT_S = 1.0
WITHIN_REACH = [
    ("afiro.mps", "lp", "-464.75314286"),
    ("flugpl.mps", "mip", "1201500"),
    ("egout.mps", "mip", "568.1007"),
    ("galenet.mps", "lp", "infeasible"),
]


def instances() -> list[tuple[Path, str, str]]:
    """``(file, lp or mip, optimum)``: those at hand here, and the shared ones where they are."""
    found = [(MODELS / name, kind, optimum) for name, kind, optimum in WITHIN_REACH]
    if SHARED.is_dir():
        with (SHARED / "optima.csv").open() as table:
            for row in csv.DictReader(table):
                found.append((SHARED / row["file"], row["kind"], row["optimum"]))
    return found


class Run:
    """One optimize job under test."""

    def __init__(
        self, format_: str, content: str, *, memory: int = 4 << 30, **options: Any
    ) -> None:
        self.progress: list[dict[str, Any]] = []
        self.checkpoints: list[bytes] = []
        self.restored: bytes | None = None
        self.solving = asyncio.Event()
        self.improved = asyncio.Event()
        problem = {"format": format_, "content": content}
        self._payload = json.dumps({"problem": problem, "options": options}).encode()
        self.process = CpuProcess(
            "optimize",
            [],
            memory=memory,
            on_progress=self._on_progress,
            on_checkpoint=self.checkpoints.append,
            on_submit=None,  # type: ignore[arg-type] # it does not
            log=structlog.get_logger(),
        )

    def _on_progress(self, fields: dict[str, Any]) -> None:
        self.progress.append(fields)
        if fields["phase"] != "reading":
            self.solving.set()
        if fields["incumbent"] is not None:
            self.improved.set()

    async def end(self) -> Ended:
        async with asyncio.timeout(60):
            return await self.process.run(
                run_id="r",
                attempt=1,
                correlation_id="c",
                payload=self._payload,
                checkpoint=self.restored,
            )

    async def answer(self) -> dict[str, Any]:
        return parsed(await self.end())


def parsed(ended: Ended) -> dict[str, Any]:
    assert ended.result is not None, ended
    answer = json.loads(ended.result)
    assert isinstance(answer, dict)
    return answer


async def solved(format_: str, content: str, **options: Any) -> dict[str, Any]:
    return await Run(format_, content, **options).answer()


@pytest.mark.parametrize(
    ("path", "kind", "optimum"), instances(), ids=lambda value: getattr(value, "name", value)
)
async def test_published_optima(path: Path, kind: str, optimum: str) -> None:
    answer = await solved("mps", path.read_text())
    assert answer["solver"].startswith("HiGHS 1.")
    assert answer["solve_s"] > 0
    if optimum == "infeasible":
        assert answer["outcome"] == "infeasible"
        assert (answer["objective"], answer["bound"], answer["gap"]) == (None, None, None)
        assert answer["solution"] == {}
        return
    assert answer["outcome"] == "optimal"
    tolerance = LP_TOLERANCE if kind == "lp" else MIP_TOLERANCE
    assert answer["objective"] == pytest.approx(float(optimum), rel=tolerance)
    assert answer["bound"] == pytest.approx(answer["objective"], rel=tolerance)
    assert answer["gap"] <= tolerance
    assert all(math.isfinite(value) for value in answer["solution"].values())


LP_MAX = "maximize\n obj: 3 x + 2 y + 10\nst\n c: x + y <= 4\n d: x + 3 y <= 6\n b: z >= 0\nend\n"


async def test_a_solution_in_the_models_own_sense_and_names() -> None:
    answer = await solved("lp", LP_MAX)
    assert answer["outcome"] == "optimal"
    assert answer["objective"] == pytest.approx(22)
    assert answer["bound"] == answer["objective"]
    assert answer["gap"] == 0
    assert answer["solution"] == {"x": 4, "y": 0, "z": 0}


async def test_maximising_a_mip() -> None:
    answer = await solved("lp", LP_MAX.replace("end", "general\n x y\nend").replace("4", "3.5"))
    assert answer["outcome"] == "optimal"
    assert answer["objective"] == pytest.approx(19)
    assert answer["bound"] >= answer["objective"]


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        ("max\n x + y\nst\n c: x - y <= 1\nend\n", "unbounded"),
        ("max\n x + y\nst\n c: x - y <= 1\ngeneral\n x y\nend\n", "unbounded"),
        ("max\n x\nst\n c: x <= 1\n d: x >= 2\nend\n", "infeasible"),
        ("min\n -x\nst\n c: 2 x + 2 y - 2 z = 1\n d: x - w >= 0\ngeneral\n x y z\nend\n", None),
        ("max\n x\nst\n c: x - y <= 0\n d: z + w <= -1\nend\n", "infeasible"),
    ],
)
async def test_infeasible_and_unbounded_are_told_apart(content: str, outcome: str | None) -> None:
    answer = await solved("lp", content)
    assert answer["outcome"] == (outcome or "infeasible")
    assert answer["objective"] is None
    assert answer["bound"] is None
    assert answer["solution"] == {}
    assert "-0.0" not in json.dumps(answer)


async def test_columns_without_usable_names_get_some() -> None:
    twice = "ROWS\n N o\n G r\nCOLUMNS\n x o 1 r 1\n y o 2 r 1\n x o 3 r 1\nRHS\n R r 1\nENDATA\n"
    assert (await solved("mps", twice))["solution"] == {"C1": 1, "C2": 0, "C3": 0}


@pytest.mark.parametrize(
    ("format_", "content"),
    [
        ("mps", "NAME\nROWS\n N o\n G r\nCOLUMNS\n x o 1 r 1\nRHS\n R r 2\nENDATA\n"),
        ("lp", "min\n x\nst\n r: x >= 2\nend\n"),
    ],
)
async def test_the_mark_of_utf8_is_ignored(format_: str, content: str) -> None:
    assert (await solved(format_, "\ufeff" + content))["solution"] == {"x": 2}


async def test_names_with_spaces_and_empty_lines() -> None:
    """HiGHS by itself would read this for ever."""
    content = (
        "\n\nNAME\nROWS\n N  MY COST\n G  ROW 1\n\nCOLUMNS\n"
        "    COL 1     MY COST            1.0   ROW 1              1.0\n\n\n"
        "RHS\n    MY RHS    ROW 1              2.0\n\nENDATA\n\n"
    )
    assert (await solved("mps", content))["solution"] == {"COL 1": 2}


@pytest.mark.parametrize(
    ("format_", "content", "message"),
    [
        ("mps", "garbage", "cannot read the model"),
        ("mps", SHORT := "NAME\nROWS\n N o\n G r\nCOLUMNS\n x o 1 r", "cannot read the model"),
        ("mps", "ENDATA\n", "it finds no columns"),
        ("mps", SHORT + " 1\nBOUNDS\n UP B x nan\nENDATA\n", "has upper bound of nan"),
        ("mps", SHORT + " 1\nINDICATORS\n IF r x 1\nENDATA\n", "INDICATORS"),
        ("lp", "garbage", "found `garbage` (line 1, column 1)"),
        ("lp", "min\n x\nst\n c: x >= 1\n", "cannot read the model"),
        ("lp", "min\n [x^2]/2\nst\n c: x >= 1\ngeneral\n x\nend\n", "cannot solve the model"),
        ("lp", "min\n x\nst\n q: [x^2] <= 1\nend\n", "quadratic constraints are not supported"),
        ("mps", "\0\xff\n" * 50, "cannot read the model"),
    ],
)
async def test_what_the_solver_cannot_read(format_: str, content: str, message: str) -> None:
    """As it comes without the look that a service takes."""
    ended = await Run(format_, content).end()
    assert ended.error is not None, ended
    assert ended.error.class_ == "InvalidInput"
    assert message in ended.error.message
    assert "/" not in ended.error.message.replace("[x^2]/2", "")
    assert not ended.retryable


@pytest.mark.parametrize("mib", [100, 150, 170])
async def test_too_little_memory_is_an_error_of_the_job(mib: int) -> None:
    """Wherever it ends: in the imports, in a library's own start, in reading."""
    ended = await Run("mps", wide_knapsacks(), memory=mib << 20).end()
    assert ended.error is not None
    assert ended.error.class_ == "OutOfMemory"
    assert not ended.retryable


async def test_a_models_own_time_limit_is_an_outcome() -> None:
    run = Run("mps", market_split(), time_limit_s=0.5, threads=2, seed=7)
    answer = await run.answer()
    assert answer["outcome"] == "time_limit"
    assert answer["objective"] > answer["bound"]
    assert answer["gap"] > 0
    assert len(answer["solution"]) == 45 + 2 * 5
    assert answer["solve_s"] == pytest.approx(0.5, abs=1)


async def test_a_wide_gap_ends_early() -> None:
    answer = await solved("mps", wide_knapsacks(5, 200), mip_rel_gap=0.2)
    assert answer["outcome"] == "optimal"
    assert 0 < answer["gap"] <= 0.2
    assert answer["objective"] < answer["bound"]


async def test_a_time_limit_before_anything_is_found() -> None:
    answer = await solved("mps", wide_knapsacks(50, 1_000), time_limit_s=1e-6)
    assert answer["outcome"] == "time_limit"
    assert (answer["solution"] == {}) == (answer["objective"] is None)


async def test_progress_while_solving() -> None:
    run = Run("mps", market_split(), time_limit_s=1.5)
    await run.end()
    assert {"mip", "finished"} <= {fields["phase"] for fields in run.progress}
    last = [fields for fields in run.progress if fields["phase"] == "mip"][-1]
    assert last["nodes"] >= 0
    assert last["incumbent"] > last["bound"]
    assert last["gap"] > 0
    assert 0 < last["elapsed_s"] < 30
    elapsed = [fields["elapsed_s"] for fields in run.progress]
    assert elapsed == sorted(elapsed)
    assert len(elapsed) >= 4


@timed
async def test_cancel_in_the_tree_hands_back_the_incumbent() -> None:
    run = Run("mps", market_split())
    task = asyncio.create_task(run.end())
    async with asyncio.timeout(30):
        await run.improved.wait()
    run.process.cancel("timeout")
    async with asyncio.timeout(PROMPT_S):
        ended = await task
    assert ended.interrupted
    answer = parsed(ended)
    assert answer["outcome"] == "interrupted"
    assert answer["objective"] is not None
    assert len(answer["solution"]) == 55
    assert run.checkpoints == []


@timed
async def test_cancel_at_the_root_node() -> None:
    run = Run("mps", wide_knapsacks())
    task = asyncio.create_task(run.end())
    async with asyncio.timeout(50):
        await run.solving.wait()
    run.process.cancel("cancelled")
    async with asyncio.timeout(PROMPT_S):
        ended = await task
    assert ended.interrupted
    assert ended.error is None


@timed
async def test_cancel_while_the_model_is_read() -> None:
    run = Run("mps", wide_knapsacks())
    task = asyncio.create_task(run.end())
    async with asyncio.timeout(50):
        while not run.progress:
            await asyncio.sleep(0)
    run.process.cancel("cancelled")
    async with asyncio.timeout(PROMPT_S):
        assert (await task).interrupted


async def test_a_drained_solve_goes_on_from_its_incumbent() -> None:
    first = Run("mps", market_split())
    task = asyncio.create_task(first.end())
    async with asyncio.timeout(30):
        await first.improved.wait()
    first.process.cancel("drain")
    ended = await task
    assert ended.interrupted
    incumbent = parsed(ended)
    assert [json.loads(text) for text in first.checkpoints] == [incumbent["solution"]]

    cold = await solved("mps", market_split(), time_limit_s=0.001)
    second = Run("mps", market_split(), time_limit_s=0.001)
    (second.restored,) = first.checkpoints
    warm = await second.answer()
    assert warm["outcome"] == "time_limit"
    assert warm["objective"] <= incumbent["objective"] + 1e-6
    assert cold["objective"] is None or cold["objective"] > warm["objective"]


async def test_a_checkpoint_of_another_model_is_left_alone() -> None:
    run = Run("mps", (MODELS / "flugpl.mps").read_text())
    run.restored = b'{"nobody":1.0}'
    answer = await run.answer()
    assert answer["objective"] == pytest.approx(1201500, rel=MIP_TOLERANCE)


@timed
async def test_the_loop_goes_on_while_solvers_work() -> None:
    """Two solvers on all the cores that there are; the loop must hardly notice."""
    runs = [Run("mps", market_split(seed=seed), time_limit_s=2) for seed in (1, 2)]
    tasks = [asyncio.create_task(run.end()) for run in runs]
    async with asyncio.timeout(50):
        for run in runs:
            await run.solving.wait()
    loop = asyncio.get_running_loop()
    lags: list[float] = []

    def tick(due: float) -> None:
        lags.append(loop.time() - due)
        following = loop.time() + 0.002
        timer[0] = loop.call_at(following, tick, following)

    timer = [loop.call_soon(tick, loop.time())]
    await asyncio.gather(*tasks)
    timer[0].cancel()
    lags.sort()
    assert len(lags) > 100
    assert lags[int(len(lags) * 0.99)] < 0.1
