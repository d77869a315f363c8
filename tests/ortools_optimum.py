"""Optima of networks by OR-tools, in a process of its own: it and HiGHS's Python package each bring
a library of the same name, of which a process takes the first alone.

`python -m tests.ortools_optimum` reads a network a line, as JSON arrays, and answers with its
optimum, or null.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Optima:
    """Asks such a process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def of(self, network: Any) -> float | None:
        """The optimum of a network of whole numbers without lower bounds."""
        columns = {name: getattr(network, name).tolist() for name in ("tail", "head", "supply")}
        columns["cost"] = network.cost.astype(int).tolist()
        columns["capacity"] = network.capacity.clip(max=1e6).astype(int).tolist()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(columns) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())  # type: ignore[no-any-return]


@contextmanager
def optima() -> Iterator[Optima]:
    """Run the process for the length of the block."""
    argv = [sys.executable, "-m", "tests.ortools_optimum"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Optima(process)
        assert process.stdin is not None
        process.stdin.close()


def main() -> None:
    """Answer line by line."""
    from ortools.graph.python.min_cost_flow import SimpleMinCostFlow

    for line in sys.stdin:
        given = json.loads(line)
        solver = SimpleMinCostFlow()
        rows = zip(*(given[name] for name in ("tail", "head", "capacity", "cost")), strict=True)
        for row in rows:
            solver.add_arc_with_capacity_and_unit_cost(*row)
        for node, supply in enumerate(given["supply"]):
            solver.set_node_supply(node, int(supply))
        solved = solver.solve() == solver.OPTIMAL
        print(json.dumps(solver.optimal_cost() if solved else None), flush=True)


if __name__ == "__main__":
    main()
