"""A small picture of a flow as SVG: who supplies and who demands, and what flows where.

The solver's process has said where the nodes lie; here they are only drawn. Colours follow the
reader's light or dark theme.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from service.flows import Flow, plain

_WIDTH, _MARGIN, _TOP, _BOTTOM = 960.0, 70.0, 64.0, 40.0
_SHAPE = (0.3, 0.85)
_LABELLED_ARCS = 60
_BESIDE = 17.0
_LABELLED_NODES = 90
_LONGEST_LABEL = 18
_STYLE = """
svg{--page:#fff;--ink:#1b2733;--soft:#5c6b7a;--idle:#c3ccd6;--flow:#2f6fde;--full:#c2410c;
--supply:#0f9d6b;--demand:#d97706;--through:#8493a3;background:var(--page);
font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
@media(prefers-color-scheme:dark){svg{--page:#10171f;--ink:#e7edf3;--soft:#9fb0c0;--idle:#3a4754;
--flow:#6ea8ff;--full:#ff9d5c;--supply:#3ddc9f;--demand:#ffbe55;--through:#7d8c9b}}
text{fill:var(--ink);paint-order:stroke;stroke:var(--page);stroke-width:3.5px;stroke-linejoin:round}
.title{font-size:17px;font-weight:600}.soft{fill:var(--soft)}.value{font-size:12px;font-weight:600}
.mid{text-anchor:middle}.end{text-anchor:end}
.arc{fill:none;stroke:var(--flow);stroke-opacity:.8;stroke-linecap:round}.tip{fill:var(--flow)}
.full .arc{stroke:var(--full)}.full .tip{fill:var(--full)}
.idle .arc{stroke:var(--idle);stroke-dasharray:2 5;stroke-opacity:1}.idle .tip{fill:var(--idle)}
circle{stroke:var(--page);stroke-width:2px}
.supply{fill:var(--supply)}.demand{fill:var(--demand)}.through{fill:var(--through)}
"""

Point = tuple[float, float]


@dataclass(frozen=True)
class _Arc:
    """What is drawn of an arc; ``bend`` is how far it leaves the straight line, in pixels."""

    name: str
    source: str
    target: str
    flow: float
    cost: float
    capacity: float | None
    bend: float

    @property
    def state(self) -> str:
        """``idle`` without flow, ``full`` at capacity, else ``busy``."""
        if not self.flow:
            return "idle"
        return "full" if self.capacity is not None and self.flow >= self.capacity else "busy"


def svg(flow: Flow) -> bytes:
    """The picture. ``flow`` must say where its nodes lie."""
    return _Drawing(flow).text().encode()


class _Drawing:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        places = flow.places or {}
        tall = max((y for _, y in places.values()), default=0.0)
        wide = max((x for x, _ in places.values()), default=0.0) or 1.0
        across = _WIDTH - 2 * _MARGIN
        height = across * min(max(tall / wide, _SHAPE[0]), _SHAPE[1])
        scale = min(across / wide, height / tall if tall else math.inf)
        left = _MARGIN + (across - wide * scale) / 2
        up = _TOP + _MARGIN / 2 + (height - tall * scale) / 2
        self._height = _TOP + height + _MARGIN + _BOTTOM
        self._at = {
            node: (left + x * scale, up + (tall - y) * scale) for node, (x, y) in places.items()
        }
        self._arcs = list(_bent(flow))
        self._most = max((abs(arc.flow) for arc in self._arcs), default=0.0) or 1.0
        self._supplied = max((abs(supply) for supply in flow.nodes.values()), default=0.0) or 1.0

    def text(self) -> str:
        flow, net = self._flow, self._flow.network
        cost = "" if flow.objective is None else f", cost {_number(flow.objective)}"
        title = plain(f"{net.name}: {flow.outcome}{cost}")
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="t d" '
            f'viewBox="0 0 {_WIDTH:.0f} {self._height:.0f}">',
            f'<title id="t">{title}</title>',
            f'<desc id="d">{net.nodes} nodes and {net.edges} arcs of the network; arrows are as '
            "wide as what flows on them.</desc>",
            f"<style>{_STYLE}</style>",
            f'<text class="title" x="24" y="34">{title}</text>',
            f'<text class="soft end" x="{_WIDTH - 24:.0f}" y="34">{net.nodes} nodes · '
            f"{net.edges} arcs</text>",
        ]
        busiest_last = sorted(self._arcs, key=lambda arc: abs(arc.flow))
        parts += map(self._arc, busiest_last)
        parts += map(self._node, flow.nodes)
        parts += self._names()
        if sum(arc.state != "idle" for arc in self._arcs) <= _LABELLED_ARCS:
            parts += [self._value(arc) for arc in busiest_last if arc.flow]
        return "\n".join([*parts, *self._legend(), "</svg>\n"])

    def _radius(self, node: str) -> float:
        small = max(0.55, min(1.0, math.sqrt(40 / max(1, len(self._at)))))
        share = math.sqrt(abs(self._flow.nodes[node]) / self._supplied)
        return (7 + 11 * share) * small

    def _node(self, node: str) -> str:
        (x, y), supply = self._at[node], self._flow.nodes[node]
        what = "supply" if supply > 0 else "demand" if supply < 0 else "through"
        told = plain(f"{node}: {what} {_number(abs(supply))}" if supply else node)
        return (
            f'<circle class="{what}" cx="{x:.1f}" cy="{y:.1f}" r="{self._radius(node):.1f}">'
            f"<title>{told}</title></circle>"
        )

    def _names(self) -> Iterator[str]:
        if len(self._at) > _LABELLED_NODES:
            return
        for node, (x, y) in self._at.items():
            below = y + self._radius(node) + 13
            supply = self._flow.nodes[node]
            amount = f' <tspan class="soft">{supply:+.6g}</tspan>' if supply else ""
            name = plain(_short(node))
            yield f'<text class="mid" x="{x:.1f}" y="{below:.1f}">{name}{amount}</text>'

    def _arc(self, arc: _Arc) -> str:
        limit = "" if arc.capacity is None else f" of {_number(arc.capacity)}"
        told = plain(f"{arc.name}: {_number(arc.flow)}{limit}, cost {_number(arc.cost)} each")
        width = 1.2 if arc.state == "idle" else 1.4 + 7 * math.sqrt(abs(arc.flow) / self._most)
        begin, control, end = self._curve(arc)
        tip = 5 + 1.6 * width
        base = _towards(end, control, tip)
        across = _normal(control, end)
        half = 2.5 + 0.75 * width
        corners = " ".join(
            f"{base[0] + side * half * across[0]:.1f},{base[1] + side * half * across[1]:.1f}"
            for side in (1, -1)
        )
        return (
            f'<g class="{arc.state}"><title>{told}</title><path class="arc" '
            f'stroke-width="{width:.1f}" d="M{_xy(begin)}Q{_xy(control)} {_xy(base)}"/>'
            f'<polygon class="tip" points="{_xy(end)} {corners}"/></g>'
        )

    def _curve(self, arc: _Arc) -> tuple[Point, Point, Point]:
        """Begin, control point and end, both ends at the rims of their nodes."""
        a, b = self._at[arc.source], self._at[arc.target]
        if arc.source == arc.target:
            reach = self._radius(arc.source)
            x, y = a
            return (x - reach, y), (x, y - 3.2 * reach - 10 - arc.bend), (x + reach, y - 2)
        across = _normal(a, b)
        control = (
            (a[0] + b[0]) / 2 + 2 * arc.bend * across[0],
            (a[1] + b[1]) / 2 + 2 * arc.bend * across[1],
        )
        begin = _towards(a, control, self._radius(arc.source))
        return begin, control, _towards(b, control, self._radius(arc.target) + 2)

    def _value(self, arc: _Arc) -> str:
        begin, control, end = self._curve(arc)
        x, y = ((p + 2 * q + r) / 4 for p, q, r in zip(begin, control, end, strict=True))
        return f'<text class="value mid" x="{x:.1f}" y="{y + 4:.1f}">{_number(arc.flow)}</text>'

    def _legend(self) -> Iterator[str]:
        y, x = self._height - 20, 32.0
        for what, told in (("supply", "supply"), ("demand", "demand"), ("through", "neither")):
            yield f'<circle class="{what}" cx="{x:.0f}" cy="{y - 4:.0f}" r="7"/>'
            yield f'<text class="soft" x="{x + 13:.0f}" y="{y:.0f}">{told}</text>'
            x += 84
        for state, told in (("busy", "flow"), ("full", "at capacity"), ("idle", "unused")):
            path = f'd="M{x:.0f} {y - 4:.0f}h22" stroke-width="{1.5 if state == "idle" else 4}"'
            yield f'<g class="{state}"><path class="arc" {path}/></g>'
            yield f'<text class="soft" x="{x + 30:.0f}" y="{y:.0f}">{told}</text>'
            x += 104


def _bent(flow: Flow) -> Iterator[_Arc]:
    """The arcs, those between the same two nodes beside one another."""
    beside: dict[tuple[str, str], list[tuple[str, float, str, str, float, float | None]]]
    beside = defaultdict(list)
    for name, value, source, target, cost, _, capacity in flow.rows():
        pair = (source, target) if source <= target else (target, source)
        beside[pair].append((name, value, source, target, cost, capacity))
    for (first, _), rows in beside.items():
        for number, (name, value, source, target, cost, capacity) in enumerate(rows):
            aside = _BESIDE * (number - (len(rows) - 1) / 2)
            turned = aside if source == first else -aside
            yield _Arc(name, source, target, value, cost, capacity, turned)


def _towards(point: Point, other: Point, by: float) -> Point:
    """``point``, moved ``by`` pixels towards another one."""
    length = math.dist(point, other) or 1.0
    share = min(by / length, 0.9)
    return point[0] + share * (other[0] - point[0]), point[1] + share * (other[1] - point[1])


def _normal(a: Point, b: Point) -> Point:
    """Of length 1, at a right angle to the way from ``a`` to ``b``."""
    length = math.dist(a, b) or 1.0
    return (b[1] - a[1]) / length, (a[0] - b[0]) / length


def _xy(point: Point) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"


def _number(value: float) -> str:
    return f"{value:,.10g}"
