"""The figures as bars: an SVG without scripts or fonts of its own, for light and dark pages."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

Row = dict[str, Any]

_WIDTH = 860
_LABEL, _BAR, _LINE, _GAP = 150, 190, 20, 34
_PANEL = _WIDTH // 2
_PANELS: tuple[tuple[str, str, int], ...] = (
    ("drained", "Jobs drained a second (more is better)", 0),
    ("one_by_one", "Jobs enqueued one by one a second (more is better)", 0),
    ("bulk", "Jobs enqueued in bulk a second (more is better)", 0),
    ("pickup_rested_p99", "Pickup after a rest, p99 in ms (less is better)", 1),
    ("commands", "Redis commands a job (less is better)", 1),
    ("memory_mb", "Worker memory in MB (less is better)", 0),
)
_STYLE = """
  .page { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e }
  .peer { fill: #8c959f } .own { fill: #0969da }
  text { font: 12px system-ui, sans-serif } .head { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } .text { fill: #f0f6fc } .faint { fill: #9198a1 }
    .peer { fill: #656c76 } .own { fill: #4493f8 }
  }
"""


def svg(rows: Sequence[Row], caption: str) -> str:
    """The chart. Bars of a panel start at 0; the longest is the panel's width."""
    shown = [row for row in rows if row["turns"]]
    height = len(shown) * _LINE + _GAP + 16
    parts = []
    for number, (key, title, digits) in enumerate(_PANELS):
        x, y = 16 + number % 2 * _PANEL, 16 + number // 2 * height
        parts.append(f'<g transform="translate({x} {y})">{_panel(shown, key, title, digits)}</g>')
    total = 16 + -(-len(_PANELS) // 2) * height + 24
    parts.append(_text(16, total - 14, caption, "faint"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {total}" '
        f'width="{_WIDTH}" height="{total}" role="img" aria-label="Job engines compared">\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="page" width="{_WIDTH}" height="{total}" rx="8"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(rows: Sequence[Row], key: str, title: str, digits: int) -> str:
    value: Callable[[Row], float] = lambda row: row[key] or 0  # noqa: E731
    longest = max(map(value, rows), default=0) or 1
    parts = [_text(0, 12, title, "text head")]
    for at, row in enumerate(rows):
        y = _GAP - 8 + at * _LINE
        width = value(row) / longest * _BAR
        told = "—" if row[key] is None else f"{row[key]:,.{digits}f}"
        parts += [
            _text(_LABEL - 8, y + 12, row["title"], "text", anchor="end"),
            f'<rect class="{"own" if row["own"] else "peer"}" x="{_LABEL}" y="{y + 1}" '
            f'width="{max(width, 1):.1f}" height="{_LINE - 6}" rx="2"/>',
            _text(_LABEL + width + 6, y + 12, told, "faint"),
        ]
    return "".join(parts)


def _text(x: float, y: float, words: str, kind: str, *, anchor: str = "start") -> str:
    at = f'class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f"<text {at}>{escape(words)}</text>"
