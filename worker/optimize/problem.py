"""What ``POST /optimize`` asks for, and a quick look at it before it is accepted."""

import math
from typing import Annotated

import msgspec
from msgspec import Meta

from control.errors import InvalidInput
from control.networks.network import check_name
from worker.optimize import lp, mps

MOST_THREADS = 256


class MpsProblem(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="mps", tag_field="format"
):
    """A model in MPS, fixed or free."""

    content: str


class LpProblem(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="lp", tag_field="format"
):
    """A model in the LP format of CPLEX."""

    content: str


class NetworkProblem(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="network", tag_field="format"
):
    """Minimum-cost flow over a stored network, by its name."""

    network: str


Problem = MpsProblem | LpProblem | NetworkProblem


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to solve. At ``time_limit_s`` (seconds of solving) the best that was found is the result.

    ``mip_rel_gap`` is how far, relatively, an integer solution may be from the best possible one;
    without it the solver's own, 1e-4. More ``threads`` than the worker has count as all it has.
    """

    time_limit_s: Annotated[float, Meta(gt=0)] | None = None
    mip_rel_gap: Annotated[float, Meta(ge=0)] | None = None
    threads: Annotated[int, Meta(ge=1, le=MOST_THREADS)] = 1
    seed: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class OptimizePayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The payload of an ``optimize`` job. ``write_back`` writes the best flow over a network onto
    its relationships in the graph."""

    problem: Problem
    options: Options = Options()
    write_back: bool = False


def check(payload: OptimizePayload) -> None:
    """Look for what can be seen without solving: no I/O, some 10 MB a second; for a thread.

    Raises :class:`InvalidInput` naming the field, or the line of the model.
    """
    for name in ("time_limit_s", "mip_rel_gap"):
        value = getattr(payload.options, name)
        if value is not None and not math.isfinite(value):
            raise InvalidInput("must be a finite number", f"options.{name}")
    match payload.problem:
        case MpsProblem(content=content):
            mps.check(content)
        case LpProblem(content=content):
            lp.check(content)
        case NetworkProblem(network=network):
            _check_network(network)
            return
    if payload.write_back:
        raise InvalidInput("only the flow over a network can be written back", "write_back")


def _check_network(name: str) -> None:
    try:
        check_name(name)
    except InvalidInput as error:
        message = str(error).removeprefix(f"{error.where}: ")
        raise InvalidInput(message, "problem.network") from None
