"""CPU-bound jobs in real processes: what they get, how they end, and what is left of them."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog
from structlog.testing import LogCapture

from tests import signals
from tests.timing import timed
from worker.cpu.process import CpuProcess, Ended, child_environment
from worker.jobs.job import JobError

KINDS = ["tests.models.cpu_kinds"]
PROMPT_S = 1.0


class Run:
    """A process under test, and what came out of it."""

    def __init__(self, kind: str, payload: Any = None, **options: Any) -> None:
        self.progress: list[dict[str, Any]] = []
        self.checkpoints: list[Any] = []
        self.logs = LogCapture()
        self.begun = asyncio.Event()
        self._payload = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._checkpoint: bytes | None = options.pop("checkpoint", None)
        log = structlog.wrap_logger(
            None, [self.logs], wrapper_class=structlog.make_filtering_bound_logger(0)
        )
        self.process = CpuProcess(
            kind,
            options.pop("modules", KINDS),
            memory=options.pop("memory", 4 << 30),
            on_progress=options.pop("on_progress", self._on_progress),
            on_checkpoint=lambda text: self.checkpoints.append(json.loads(text)),
            on_submit=None,  # type: ignore[arg-type] # see test_cpu_submit.py
            log=log,
            **options,
        )

    def _on_progress(self, fields: dict[str, Any]) -> None:
        self.progress.append(fields)
        self.begun.set()

    async def end(self) -> Ended:
        async with asyncio.timeout(60):
            return await self.process.run(
                run_id="01RUN",
                attempt=2,
                correlation_id="corr-1",
                payload=self._payload,
                checkpoint=self._checkpoint,
            )

    def start(self) -> asyncio.Task[Ended]:
        return asyncio.create_task(self.end())

    async def under_way(self) -> int:
        """Wait until the function runs; its process id."""
        async with asyncio.timeout(30):
            await self.begun.wait()
        assert self.process.pid is not None
        return self.process.pid

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logs.entries]


def assert_gone(pid: int) -> None:
    """The process has ended; a zombie whose parent is not us counts as ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        deadline = time.monotonic() + 5
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, f"{process} is still there"
            with contextlib.suppress(psutil.TimeoutExpired):
                process.wait(0.05)


def parsed(ended: Ended) -> Any:
    assert ended.result is not None, ended
    return json.loads(ended.result)


async def test_payload_and_result_travel_whole() -> None:
    value = {"text": "é\n\0", "number": 1.5, "none": None}
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert await Run("t.echo", value).end() == Ended(result=text.encode())


async def test_32_mib_there_and_back() -> None:
    payload = json.dumps("z" * (32 << 20)).encode()
    ended = await Run("t.echo", payload).end()
    assert ended.result == payload


async def test_what_the_function_knows_and_what_it_does_not() -> None:
    secret = "postgresql://u:p@h/d"
    environ = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "DATABASE_URL": secret}
    environ |= {"REDIS_URL": secret, "DRAWBRIDGE_TOKEN": "t0p", "NEO4J_PASSWORD": "t0p"}
    run = Run("t.surroundings", environ=environ, checkpoint=b'{"done":7}')
    known = parsed(await run.end())
    told = (known["run_id"], known["attempt"], known["correlation_id"])
    assert told == ("01RUN", 2, "corr-1")
    assert known["restored"] == {"done": 7}
    assert known["niceness"] >= 5
    assert known["session"] is True
    assert known["stdin"] == ""
    assert known["environ"]["HOME"] == "/nowhere"
    assert known["environ"]["OPENBLAS_NUM_THREADS"] == "1"
    assert secret not in json.dumps(known)
    assert "t0p" not in json.dumps(known)
    assert not Path(known["environ"]["TMPDIR"]).exists()


def test_the_environment_of_a_child_is_chosen_not_inherited() -> None:
    kept = child_environment({"LC_ALL": "C", "PYTHONHASHSEED": "0", "AWS_SECRET": "x", "FOO": "y"})
    assert {"LC_ALL", "PYTHONHASHSEED", "PYTHONPATH"} <= kept.keys()
    assert not {"AWS_SECRET", "FOO"} & kept.keys()


async def test_printing_does_no_harm() -> None:
    run = Run("t.print")
    assert parsed(await run.end()) == "printed"
    (line,) = [entry for entry in run.logs.entries if "stderr" in entry]
    assert line["log_level"] == "debug"
    assert "to stderr" in line["stderr"]
    assert len(line["stderr"]) <= 1 << 16


@pytest.mark.parametrize(
    ("what", "error", "retryable"),
    [
        ("value", JobError("ValueError", "first line"), False),
        ("long", JobError("ValueError", "y" * 500), False),
        ("hiccup", JobError("Hiccup", "try again"), True),
        ("derived", JobError("ConnectionResetError", "gone"), True),
        ("input", JobError("InvalidInput", "problem.content: is wrong"), False),
        ("exit", JobError("SystemExit", "the function called sys.exit(4)"), False),
        ("memory", JobError("OutOfMemory", "the job needs more memory than it may use"), False),
        ("interrupt", JobError("KeyboardInterrupt", ""), False),
        ("half", JobError("ValueError", "bad ? name"), False),
        ("mute", JobError("Mute", ""), False),
    ],
)
async def test_what_the_function_raises(what: str, error: JobError, retryable: bool) -> None:
    run = Run("t.raise", what)
    assert await run.end() == Ended(error=error, retryable=retryable)
    (line,) = [entry for entry in run.logs.entries if "traceback" in entry]
    assert "cpu_kinds.py" in line["traceback"]
    assert line["run_id"] == "01RUN"
    assert line["request_id"] == "corr-1"


async def test_a_result_that_json_cannot_hold() -> None:
    ended = await Run("t.unencodable").end()
    assert ended.error is not None
    assert ended.error.class_ == "TypeError"


async def test_an_unknown_kind_and_an_unknown_module() -> None:
    ended = await Run("t.nothing").end()
    assert ended.error == JobError("ConfigError", "this worker knows no job kind 't.nothing'")
    ended = await Run("t.echo", modules=["tests.models.absent"]).end()
    assert ended.error is not None
    assert ended.error.class_ == "ConfigError"


@pytest.mark.parametrize(
    ("how", "fate"),
    [
        (0, "ended with status 0"),
        (7, "ended with status 7"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-signal.SIGKILL, "was killed by SIGKILL"),
    ],
)
async def test_a_process_that_dies_by_itself(how: int, fate: str) -> None:
    run = Run("t.die", how)
    ended = await run.end()
    assert ended == Ended(error=JobError("ProcessDied", f"the process {fate}"), retryable=True)
    (line,) = [entry for entry in run.logs.entries if entry["log_level"] == "warning"]
    assert "last words" in line["stderr"]


async def test_kill_9_from_outside() -> None:
    run = Run("t.deaf")
    task = run.start()
    os.kill(await run.under_way(), signal.SIGKILL)
    ended = await task
    assert ended.error == JobError("ProcessDied", "the process was killed by SIGKILL")
    assert ended.retryable
    assert not ended.interrupted


async def test_a_memory_blow_up_is_an_error_of_the_job() -> None:
    ended = await Run("t.hog", memory=512 << 20).end()
    assert ended.error is not None
    assert ended.error.class_ == "OutOfMemory"
    assert not ended.retryable


async def test_progress_is_sampled_and_its_last_always_comes() -> None:
    run = Run("t.progress", 20_000)
    began = time.monotonic()
    await run.end()
    took = time.monotonic() - began
    assert run.progress[-1] == {"done": 19_999}
    assert len(run.progress) <= took * 4 + 2


async def test_log_lines_reach_the_workers_log() -> None:
    run = Run("t.progress", 2)
    await run.end()
    (line,) = [entry for entry in run.logs.entries if entry["event"] == "halfway"]
    assert line["done"] == 1
    assert line["event_"] == "mine"
    assert line["infinite"] is None
    assert line["attempt"] == 2


@timed
async def test_a_cancel_that_the_function_heeds() -> None:
    run = Run("t.polite")
    task = run.start()
    pid = await run.under_way()
    run.process.cancel("timeout")
    run.process.cancel("cancelled")  # the first reason stays
    ended = await asyncio.wait_for(task, PROMPT_S)
    assert ended.interrupted
    assert parsed(ended) == {"reason": "timeout", "cancelled": True}
    assert run.checkpoints == [{"done": 7}]
    assert_gone(pid)


async def test_a_result_that_was_whole_when_the_cancel_came() -> None:
    run = Run("t.finisher")
    task = run.start()
    await run.under_way()
    run.process.cancel("drain")
    assert await task == Ended(result=b'"all done"')


@timed
async def test_a_cancel_that_the_function_does_not_heed() -> None:
    run = Run("t.deaf")
    task = run.start()
    pid = await run.under_way()
    run.process.cancel("cancelled")
    assert await asyncio.wait_for(task, PROMPT_S) == Ended(interrupted=True)
    assert_gone(pid)


@timed
async def test_a_stopped_process_is_killed_all_the_same() -> None:
    run = Run("t.polite")
    task = run.start()
    pid = await run.under_way()
    signals.send(pid, signal.SIGSTOP)
    run.process.cancel("timeout")
    assert await asyncio.wait_for(task, PROMPT_S) == Ended(interrupted=True)
    assert_gone(pid)


@timed
async def test_a_drain_waits_until_the_caller_decides() -> None:
    run = Run("t.deaf", term_after_s=0.0, kill_after_s=0.0)
    task = run.start()
    pid = await run.under_way()
    run.process.cancel("drain")
    done, _ = await asyncio.wait([task], timeout=0.2)
    assert not done
    run.process.kill()
    assert await asyncio.wait_for(task, PROMPT_S) == Ended(interrupted=True)
    assert_gone(pid)


@timed
async def test_a_cancel_goes_beyond_a_drain() -> None:
    run = Run("t.deaf")
    task = run.start()
    await run.under_way()
    run.process.cancel("drain")
    run.process.cancel("cancelled")
    assert await asyncio.wait_for(task, PROMPT_S) == Ended(interrupted=True)


@pytest.mark.parametrize("stop", [lambda p: p.cancel("cancelled"), lambda p: p.kill()])
async def test_stopped_before_the_start_nothing_starts(stop: Callable[[CpuProcess], None]) -> None:
    run = Run("t.deaf")
    stop(run.process)
    assert await run.end() == Ended(interrupted=True)
    assert run.process.pid is None


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 10, 100, 1_000])
@timed
async def test_cancelled_while_it_starts(turns: int) -> None:
    run = Run("t.deaf")
    task = run.start()
    for _ in range(turns):
        await asyncio.sleep(0)
    run.process.cancel("cancelled")
    assert await asyncio.wait_for(task, PROMPT_S) == Ended(interrupted=True)
    assert run.progress == []


async def test_a_drain_before_the_function_begins_ends_it() -> None:
    """The process is there, but its modules are not imported yet."""
    run = Run("t.deaf")
    task = run.start()
    async with asyncio.timeout(60):
        while run.process.pid is None:
            await asyncio.sleep(0)
    run.process.cancel("drain")
    async with asyncio.timeout(60):
        assert await task == Ended(interrupted=True)


async def test_cancelling_the_task_leaves_no_process() -> None:
    run = Run("t.deaf")
    task = run.start()
    pid = await run.under_way()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_gone(pid)


@pytest.mark.parametrize("payload", ["leave", "wait"])
@timed
async def test_what_the_function_started_ends_with_it(payload: str) -> None:
    run = Run("t.family", payload)
    task = run.start()
    await run.under_way()
    if payload == "wait":
        run.process.cancel("cancelled")
    await asyncio.wait_for(task, PROMPT_S + 1)
    (child,) = run.checkpoints
    assert_gone(child)


async def test_what_a_callback_raises_comes_out_of_run() -> None:
    def refuse(_fields: dict[str, Any]) -> None:
        raise RuntimeError("no progress wanted")

    run = Run("t.deaf", on_progress=refuse)
    with pytest.raises(RuntimeError, match="no progress wanted"):
        await run.end()
    assert run.process.pid is not None
    assert_gone(run.process.pid)


PARENT = """
import asyncio, sys, structlog
from worker.cpu.process import CpuProcess

def told(fields):
    print(fields["pid"], flush=True)

process = CpuProcess(sys.argv[1], ["tests.models.cpu_kinds"], memory=4 << 30,
                     on_progress=told, on_checkpoint=print, on_submit=print,
                     log=structlog.get_logger())
asyncio.run(process.run(run_id="r", attempt=1, correlation_id="c", payload=b"1", checkpoint=None))
"""


@pytest.mark.parametrize("kind", ["t.deaf", "t.polite"])
def test_a_process_ends_with_its_worker(kind: str) -> None:
    environ = child_environment(os.environ)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, kind], stdout=subprocess.PIPE, env=environ
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    assert_gone(pid)


async def test_many_at_once() -> None:
    runs = [Run("t.echo", number) for number in range(8)]
    ended = await asyncio.gather(*(run.end() for run in runs))
    assert [parsed(one) for one in ended] == list(range(8))
