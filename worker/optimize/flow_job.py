"""One job over a network: read it, solve it, write the flow back; in the job's own process."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from control.clock import Clock
from control.config import GraphSection
from control.errors import ConfigError
from control.networks.network import FlowSuperseded, Network
from worker.cpu.context import Context
from worker.optimize import flow_checkpoint, network
from worker.optimize.flow import Flow, FlowNetwork
from worker.optimize.flow_checkpoint import Checkpoint
from worker.optimize.flow_result import FlowSolution, result
from worker.optimize.flow_solver import FlowSolver
from worker.optimize.highs import Teller
from worker.optimize.network import Attributes, PatientGraph
from worker.optimize.places import places
from worker.optimize.problem import NetworkProblem, OptimizePayload

T = TypeVar("T")


class Stopped(Exception):
    """The job was asked to stop before it had anything to show."""

    def __init__(self) -> None:
        super().__init__("was stopped")


class FlowJob:
    """One run of a job over a network; it is used once."""

    def __init__(
        self, context: Context, problem: NetworkProblem, payload: OptimizePayload, clock: Clock
    ) -> None:
        if context.graph is None:
            raise ConfigError("this worker gives its jobs no access to Neo4j")
        self._context = context
        self._name = problem.network
        self._payload = payload
        self._clock = clock
        self._section = GraphSection(**msgspec.structs.asdict(context.graph))
        self._teller = Teller(context, clock)
        self._done: tuple[str, int, int] = ("reading", 0, 0)

    def run(self) -> FlowSolution:
        """Solve it.

        Raises :class:`control.networks.network.UnknownNetwork`,
        :class:`control.errors.InvalidInput` for a network that cannot be solved, what another
        attempt may cure (:class:`control.errors.StoreUnavailable` and
        :class:`control.networks.network.NetworkReplaced`), and :class:`Stopped`.
        """
        self._teller.tell("reading")
        used, net, attributes = self._in_the_graph(
            lambda graph: network.read(graph, self._name, self._clock, self._tell)
        )
        if self._context.cancelled:
            raise Stopped
        kept = flow_checkpoint.restored(self._context.restored, used.version)
        flow = None if kept is None else kept.flow(net)
        if kept is None or flow is None:
            flow, solver = self._solved(used, net, kept)
        else:
            solver = kept.solver
        answer = _answer(used, net, flow, solver, attributes)
        if flow.outcome == "interrupted":
            return answer
        if self._payload.write_back and flow.objective is not None:
            return self._written(answer, used, net, flow)
        self._finish(answer)
        return answer

    def _solved(self, used: Network, net: FlowNetwork, kept: Checkpoint | None) -> tuple[Flow, str]:
        solving = FlowSolver(self._context, self._payload.options, self._clock, self._teller)
        flow = solving.solve(net, None if kept is None else kept.basis)
        if flow.outcome == "interrupted" and solving.basis is not None:
            standing = flow_checkpoint.standing(used.version, net.arcs, solving.basis)
            self._context.checkpoint(standing)
        if flow.objective is not None and self._payload.write_back:
            self._context.checkpoint(flow_checkpoint.solved(used.version, flow, solving.version))
        return flow, solving.version

    def _written(
        self, answer: FlowSolution, used: Network, net: FlowNetwork, flow: Flow
    ) -> FlowSolution:
        """The answer, its flow written back; or else why not."""
        try:
            self._in_the_graph(
                lambda graph: network.write_back(
                    graph, used, net, flow.values, flow.objective or 0.0,
                    run_id=self._context.run_id, clock=self._clock, tell=self._tell,
                )
            )  # fmt: skip
        except Stopped:
            return msgspec.structs.replace(answer, not_written="the job was stopped meanwhile")
        except FlowSuperseded as error:
            self._context.log.warning("the flow was not written", reason=str(error))
            answer = msgspec.structs.replace(answer, not_written=str(error))
        else:
            answer = msgspec.structs.replace(answer, written_back=True)
        self._finish(answer)
        return answer

    def _finish(self, answer: FlowSolution) -> None:
        self._context.disregard_cancel()
        self._teller.tell("finished", incumbent=answer.objective, bound=answer.bound)

    def _in_the_graph(self, work: Callable[[PatientGraph], Coroutine[Any, Any, T]]) -> T:
        """What ``work`` returns. Raises :class:`Stopped` at a cancellation."""

        async def within() -> T:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None  # noqa: S101 - asyncio.run made one

            def stop() -> None:
                with suppress(RuntimeError):  # that part is over
                    loop.call_soon_threadsafe(task.cancel)

            self._context.on_cancel(stop)
            async with PatientGraph(self._section, self._clock, self._wait) as graph:
                return await work(graph)

        try:
            return asyncio.run(within())
        except asyncio.CancelledError:
            raise Stopped from None

    def _tell(self, phase: str, done: int, total: int) -> None:
        self._done = phase, done, total
        if self._teller.due:
            self._teller.tell(phase, edges=done, of_edges=total)

    def _wait(self) -> None:
        """Neo4j is away."""
        phase, done, total = self._done
        self._teller.tell(phase, edges=done, of_edges=total, waiting_for="neo4j")


def _answer(
    used: Network, net: FlowNetwork, flow: Flow, solver: str, attributes: Attributes
) -> FlowSolution:
    drawn = None if attributes is None else places(net, attributes, flow.values)
    return result(used, net, flow, solver=solver, places=drawn)
