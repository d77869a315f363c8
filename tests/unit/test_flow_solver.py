"""Minimum-cost flow: the optima of independent solvers, and why there is none."""

import json
import math
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.clock import SystemClock
from control.errors import InvalidInput
from control.networks.columns import column, ends
from control.networks.network import Network
from tests.flows import by_name, context, drawn, network, solved
from tests.ortools_optimum import Optima, optima
from worker.cpu.frames import FrameType
from worker.optimize import flow_checkpoint
from worker.optimize.flow import Flow, FlowNetwork
from worker.optimize.flow_result import EVERY_ARC, result
from worker.optimize.flow_solver import FlowSolver
from worker.optimize.highs import Teller
from worker.optimize.problem import Options

NODES = "abcdefg"
EDGES = st.tuples(
    st.sampled_from(NODES),
    st.sampled_from(NODES),
    st.integers(-4, 9),
    st.sampled_from([math.inf, 0, 1, 3, 7]),
    st.sampled_from([0, 0, 0, 1]),
)


def by_networkx(given: FlowNetwork) -> tuple[str, float | None]:
    """``(outcome, objective)`` of another solver, which knows no lower bounds."""
    graph = nx.MultiDiGraph()
    for node, supply in zip(given.ids, given.supply.tolist(), strict=True):
        graph.add_node(node, demand=-int(supply))
    base = 0
    rows = zip(given.tail, given.head, given.cost, given.lower, given.capacity, strict=True)
    for tail, head, cost, lower, capacity in rows:
        source, target = given.ids[tail], given.ids[head]
        graph.nodes[source]["demand"] += int(lower)
        graph.nodes[target]["demand"] -= int(lower)
        base += int(cost) * int(lower)
        limit = {} if capacity == math.inf else {"capacity": int(capacity - lower)}
        graph.add_edge(source, target, weight=int(cost), **limit)
    try:
        return "optimal", nx.network_simplex(graph)[0] + base
    except nx.NetworkXUnfeasible:
        return "infeasible", None
    except nx.NetworkXUnbounded:
        return "unbounded", None


@pytest.fixture(scope="module")
def ortools() -> Iterator[Optima]:
    with optima() as asked:
        yield asked


def require_flow(given: FlowNetwork, flow: Flow) -> None:
    """It keeps all bounds, every node is satisfied, and it costs what it says."""
    assert (flow.values >= given.lower).all()
    assert (flow.values <= given.capacity).all()
    left = given.supply - np.bincount(given.tail, flow.values, given.nodes)
    left += np.bincount(given.head, flow.values, given.nodes)
    assert np.abs(left).max(initial=0) < 1e-6
    assert math.isclose(given.cost @ flow.values, flow.objective or 0, rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(NODES), st.integers(-3, 3)),
       st.lists(EDGES, min_size=1, max_size=14), st.booleans())  # fmt: skip
def test_small_networks_of_every_kind(
    supplies: dict[str, int], edges: list[Any], balanced: bool
) -> None:
    """Parallel arcs, loops, lower bounds, negative costs: the outcome and the optimum."""
    if balanced:
        supplies["a"] = supplies.get("a", 0) - sum(supplies.values())
    edges = [(*edge[:3], max(edge[3], edge[4]), edge[4]) for edge in edges]
    made = network(supplies, edges)
    flow = solved(made)
    assert (flow.outcome, flow.objective) == by_networkx(made)
    if flow.outcome == "optimal":
        require_flow(made, flow)
        assert np.array_equal(flow.values, np.rint(flow.values))
    else:
        assert flow.why is not None
        assert flow.why.nodes or flow.why.arcs
        assert flow.values is None


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(10, 2_000))
def test_networks_of_up_to_two_thousand_arcs(ortools: Optima, seed: int, arcs: int) -> None:
    made = drawn(seed, max(5, arcs // 8), arcs)
    flow = solved(made)
    assert flow.objective == by_networkx(made)[1] == ortools.of(made)
    require_flow(made, flow)


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_arcs(ortools: Optima, seed: int) -> None:
    made = drawn(seed, 1_000, 10_000)
    flow = solved(made)
    assert flow.objective == flow.bound == ortools.of(made)
    require_flow(made, flow)


def test_numbers_that_are_not_whole() -> None:
    made = drawn(3, 200, 2_000, whole=False)
    flow = solved(made)
    require_flow(made, flow)
    whole = drawn(3, 200, 2_000)
    whole.cost, whole.capacity = np.rint(made.cost * 1e6), np.rint(made.capacity * 1e6)
    whole.supply = made.supply * 1e6
    assert flow.objective == pytest.approx(by_scaled(whole), rel=1e-6)


def by_scaled(given: FlowNetwork) -> float:
    """By networkx: the capacities are too many units for the other one."""
    cost = by_networkx(given)[1]
    assert cost is not None
    return cost / 1e12


def message(supplies: dict[str, float], edges: list[Any]) -> str:
    """Why there is no best flow."""
    why = solved(network(supplies, edges)).why
    assert why is not None
    return why.message


def test_why_there_is_none_names_the_nodes() -> None:
    there = [("a", "b", 1, 3), ("a", "c", 1, 1), ("b", "d", 1), ("c", "d", 1)]
    assert message({"a": 5, "d": -4}, there) == (
        "supply is 1 more than demand: supply 5, demand 4; largest supply at the node a"
    )
    assert message({"a": 5, "d": -5}, there) == (
        "the node a must send out 5, but at most 4 may leave, by the arcs a->b, a->c"
    )
    assert message({"a": 5, "d": -5}, [("a", "b", 1), ("c", "d", 1)]) == (
        "the nodes a, b must together send out 5, but no arc leaves them"
    )
    assert message({"a": 5, "d": -5}, [("a", "b", 1), ("b", "c", 1), ("x", "d", 1)]) == (
        "the nodes x, d must together take in 5, but no arc enters them"
    )
    assert message({"a": 1, "b": -1}, [("a", "b", 1, 2, 3), ("a", "b", 1)]) == (
        "more must flow than the capacity allows on the arc a->b"
    )
    assert message({"a": 1, "b": -1}, [("a", "b", 1), ("b", "c", -2), ("c", "b", 1)]) == (
        "each unit that goes round b -> c -> b costs -1, and nothing limits it"
    )
    assert message({"a": 0}, [("a", "a", -1)]).startswith("each unit that goes round a -> a costs")


def test_a_negative_cycle_of_a_network_that_has_no_flow() -> None:
    made = network({"a": 1, "b": -1}, [("b", "a", 1), ("b", "c", -2), ("c", "b", 1)])
    assert solved(made).outcome == "infeasible"


def test_many_to_blame_are_counted() -> None:
    supplies = {f"s{at}": 1.0 for at in range(150)} | {"t": -150.0}
    flow = solved(network(supplies, [(f"s{at}", "hub", 1) for at in range(150)]))
    assert flow.why is not None
    assert flow.why.nodes == ["t"]
    supplies["t"] = -151.0
    flow = solved(network(supplies, [("t", "s0", 1)]))
    assert flow.why is not None
    assert flow.why.reason == "unbalanced"
    flow = solved(network({**supplies, "t": -150.0}, [("t", f"s{at}", 1) for at in range(149)]))
    assert flow.why is not None
    assert flow.why.message == "the node t must take in 150, but no arc enters it"


@pytest.mark.parametrize(
    ("supplies", "edges", "objective"),
    [({}, [], 0), ({"a": 0}, [], 0), ({"a": 0}, [("a", "a", -1, 3), ("a", "a", 2, 3)], -3),
     ({"a": 2, "b": -2}, [("a", "b", 5, 1), ("a", "b", 7)], 12)],
)  # fmt: skip
def test_the_smallest_networks(
    supplies: dict[str, float], edges: list[Any], objective: float
) -> None:
    flow = solved(network(supplies, edges))
    assert (flow.outcome, flow.objective) == ("optimal", objective)


def test_parallel_arcs_have_names_of_their_own() -> None:
    made = network(
        {"a": 9, "b": -9}, [("a", "b", 1, 2), ("a", "b", 2, 3), ("a", "b", 3), ("b", "a", 1)]
    )
    assert by_name(made, solved(made)) == {"a->b": 2, "a->b#2": 3, "a->b#3": 4}


@given(st.text("ab->#%2D3E5", max_size=8), st.text("ab->#%2D3E5", max_size=8), st.integers(1, 3))
def test_the_name_of_an_arc_gives_its_ends_back(source: str, target: str, parallel: int) -> None:
    assert ends(column(source, target, parallel)) == (source, target)


@pytest.mark.parametrize(
    ("field", "value"),
    [("cost", math.nan), ("cost", math.inf), ("capacity", math.nan), ("lower", -math.inf)],
)
def test_spoilt_numbers_are_refused_by_the_name_of_the_arc(field: str, value: float) -> None:
    made = network({"a": 1, "b": -1}, [("a", "b", 1), ("a", "b", 2)])
    getattr(made, field)[1] = value
    with pytest.raises(InvalidInput, match="the arc a->b#2 has no usable"):
        made.check()
    made = network({"a": 1, "b": -1}, [("a", "b", 1)])
    made.supply[1] = math.nan
    with pytest.raises(InvalidInput, match="the node b has no usable supply"):
        made.check()


def test_a_time_limit_says_how_good_a_flow_could_be() -> None:
    made = drawn(5, 4_000, 40_000)
    best = solved(made).objective
    assert best is not None
    flow = solved(made, time_limit_s=0.05)
    assert flow.outcome == "time_limit"
    assert flow.values is None
    assert flow.bound is None or flow.bound <= best


def cut_short(made: FlowNetwork, reason: str) -> tuple[Flow, FlowSolver]:
    """A solve that is asked to stop while it iterates."""
    clock = SystemClock()
    began = threading.Event()

    def told(kind: FrameType, body: bytes) -> None:
        if kind is FrameType.PROGRESS and json.loads(body)["iterations"]:
            began.set()

    around = context(told)
    solver = FlowSolver(around, Options(), clock, Teller(around, clock))
    stopping = threading.Thread(target=lambda: began.wait(30) and around.cancel(reason))
    stopping.start()
    flow = solver.solve(made)
    stopping.join()
    return flow, solver


def test_one_process_solves_with_other_numbers_of_threads() -> None:
    made = drawn(3, 20, 60)
    flows = [solved(made, threads=threads) for threads in (2, 1, 2)]
    assert len({flow.objective for flow in flows}) == 1


def test_a_drained_solve_goes_on_from_where_it_stood() -> None:
    made = drawn(9, 5_000, 50_000)
    flow, solver = cut_short(made, "drain")
    assert flow.outcome == "interrupted"
    assert solver.basis is not None
    kept = flow_checkpoint.standing("v", made.arcs, solver.basis)
    text = msgspec.json.encode(kept)
    assert len(text) < made.arcs * 2
    assert flow_checkpoint.restored(msgspec.json.decode(text), "another") is None
    again = flow_checkpoint.restored(msgspec.json.decode(text), "v")
    assert again is not None
    best = solved(made)
    resumed = solved(made, again.basis)
    assert resumed.objective == best.objective
    assert flow.bound is None or flow.bound <= (best.objective or 0)


def test_only_a_drain_keeps_where_it_stood() -> None:
    flow, solver = cut_short(drawn(9, 5_000, 50_000), "cancelled")
    assert flow.outcome == "interrupted"
    assert solver.basis is None


def test_a_large_result_names_what_flows_only() -> None:
    made = drawn(4, 1_000, EVERY_ARC + 1)
    best = solved(made)
    used = Network(
        name="wide", version="v", nodes=made.nodes, edges=made.arcs, total_supply=0,
        total_demand=0, created_at="",
    )  # fmt: skip
    answer = result(used, made, best, solver="", places=None)
    assert 0 not in answer.solution.values()
    assert math.fsum(answer.solution.values()) == best.values.sum()
    assert len(answer.arcs.cost) == len(answer.solution)
    small = network({"a": 1, "b": -1}, [("a", "b", 1), ("a", "b", 2)])
    answer = result(used, small, solved(small), solver="", places=None)
    assert answer.solution == {"a->b": 1, "a->b#2": 0}


PLANTS = """\
c Two plants, a depot that must be used, two shops; parallel arcs and a lower bound.
p min 5 8
n 1 12
n 2 6
n 4 -10
n 5 -8
a 1 3 2 9 4
a 1 4 0 5 7
a 2 3 0 8 3
a 2 5 0 4 6
a 3 4 0 7 1
a 3 5 0 9 2
a 1 4 0 2 5
a 4 5 0 3 1
"""
FOUR = """\
c The example of the DIMACS format's own description.
p min 4 5
n 1 4
n 4 -4
a 1 2 0 4 2
a 1 3 0 2 2
a 2 3 0 2 1
a 2 4 0 3 3
a 3 4 0 5 1
"""


@pytest.mark.parametrize(("text", "optimum"), [(PLANTS, 94), (FOUR, 14)])
def test_examples_in_dimacs_format_with_known_optima(text: str, optimum: float) -> None:
    rows = [line.split() for line in text.splitlines()]
    supplies = {row[1]: float(row[2]) for row in rows if row[0] == "n"}
    edges = [
        (source, target, float(cost), float(capacity), float(lower))
        for _, source, target, lower, capacity, cost in (row for row in rows if row[0] == "a")
    ]
    made = network(supplies, edges)
    flow = solved(made)
    assert flow.objective == by_networkx(made)[1] == optimum
    require_flow(made, flow)
