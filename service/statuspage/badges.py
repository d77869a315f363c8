"""Badges: how things stand as a small picture for a README or a page of one's own."""

from markupsafe import escape

from control.status.states import Status
from service.statuspage.palette import LOOKS
from service.statuspage.prose import clean, shortened

SVG = "image/svg+xml"

_COLOURS = {
    Status.OPERATIONAL: "#1d7a4f",
    Status.DEGRADED: "#8a5d00",
    Status.PARTIAL_OUTAGE: "#aa411c",
    Status.MAJOR_OUTAGE: "#8c1146",
    Status.UNDER_MAINTENANCE: "#2950d8",
    Status.UNKNOWN: "#596273",
}
"""Darker than on the page: white words stand on them."""

_MARKS = {
    Status.OPERATIONAL: "m0 5 3 3 6-6.5",
    Status.DEGRADED: "M0 5.5c1.5-2.6 3-2.6 4.5 0s3 2.6 4.5 0",
    Status.PARTIAL_OUTAGE: "M4.5 0v6M4.5 9v.1",
    Status.MAJOR_OUTAGE: "m.5 1 8 8m0-8-8 8",
    Status.UNDER_MAINTENANCE: "M2.5 1v8M6.5 1v8",
    Status.UNKNOWN: "M4.5 9.5v.1M1.5 2.5a3 3 0 1 1 4.5 2.5q-1.5 1-1.5 2",
}
_WIDE, _NARROW = frozenset("mwMW@%—"), frozenset("iljtfrI.,:;|!'()[]- ")


def badge(label: str, status: Status) -> str:
    """``label`` on the left, the status as mark and word on the right."""
    left = shortened(clean(label), 60)
    right = LOOKS[status].label.lower()
    one, two = _width(left), _width(right)
    split, whole = one + 16, one + two + 48
    said, left = escape(f"{left}: {right}"), escape(left)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="22" role="img" '
        f'aria-label="{said}"><title>{said}</title>'
        f'<path fill="#333b49" d="M5 0H{split}v22H5a5 5 0 0 1-5-5V5a5 5 0 0 1 5-5z"/>'
        f'<path fill="{_COLOURS[status]}" d="M{split} 0H{whole - 5}a5 5 0 0 1 5 5v12a5 5 0 0 1-5 5'
        f'H{split}z"/>'
        f'<path transform="translate({split + 9} 6)" fill="none" stroke="#fff" stroke-width="2" '
        f'stroke-linecap="round" d="{_MARKS[status]}"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11.5">'
        f'<text x="8" y="15.2" textLength="{one}">{left}</text>'
        f'<text x="{split + 24}" y="15.2" textLength="{two}">{right}</text></g></svg>\n'
    )


def _width(text: str) -> int:
    """About how wide it is, in pixels; ``textLength`` makes it so."""
    return round(sum(11 if c in _WIDE else 4.6 if c in _NARROW else 7.4 for c in text))
