"""What a job returned, as the API hands it out: JSON, or the columns of a solution as CSV; a flow
over a network as GraphML and, where that is small enough, as a picture too."""

import csv
import io

import msgspec

from service import drawing, flows

JSON = "application/json"
CSV = "text/csv"
GRAPHML = "application/graphml+xml"
SVG = "image/svg+xml"
MEDIA = (JSON, CSV, GRAPHML, SVG)
"""The representations that a result may have, the default first."""

PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""What a picture may do where a browser shows it by itself."""


class _Solution(msgspec.Struct):
    solution: dict[str, float] | None = None


def with_run_id(result: bytes, run_id: str) -> bytes:
    """The JSON text of a result with ``run_id`` as its first member.

    The text is hardly ever parsed: solutions may have a million columns. What is no object, or one
    that has such a member itself, becomes the member ``result`` of one.
    """
    head = f'{{"run_id":"{run_id}"'.encode()
    if not result.startswith(b"{") or _has_run_id(result):
        return b'%b,"result":%b}' % (head, result)
    return head + (b"}" if result == b"{}" else b"," + result[1:])


def _has_run_id(result: bytes) -> bool:
    return b'"run_id":' in result and "run_id" in msgspec.json.decode(
        result, type=dict[str, msgspec.Raw]
    )


def offers(result: bytes) -> tuple[str, ...]:
    """The representations that this result has."""
    if not flows.is_flow(result):
        return (JSON, CSV) if b'"solution":' in result else (JSON,)
    return MEDIA if flows.is_drawable(result) else (JSON, CSV, GRAPHML)


def represented(result: bytes, media: str) -> bytes:
    """The result as CSV, GraphML or a picture. Seconds for a million columns: for a thread."""
    if not flows.is_flow(result):
        return csv_table(result)
    flow = flows.parsed(result)
    if media == CSV:
        return flows.csv_table(flow)
    return flows.graphml(flow) if media == GRAPHML else drawing.svg(flow)


def csv_table(result: bytes) -> bytes:
    """The solution as CSV with the header ``column,value``; only the header where there is none."""
    try:
        solution = msgspec.json.decode(result, type=_Solution).solution
    except msgspec.ValidationError:  # a kind that returns something else
        solution = None
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("column", "value"))
    writer.writerows((solution or {}).items())
    return table.getvalue().encode()
