"""What a job returned, as the API hands it out: JSON, or the columns of a solution as CSV."""

import csv
import io

import msgspec

JSON = "application/json"
CSV = "text/csv"
MEDIA = (JSON, CSV)
"""The representations of a result, the default first."""


class _Solution(msgspec.Struct):
    solution: dict[str, float] | None = None


def with_run_id(result: bytes, run_id: str) -> bytes:
    """The JSON text of a result with ``run_id`` as its first member.

    The text is not parsed: solutions may have a million columns. What is no object becomes the
    member ``result`` of one.
    """
    head = f'{{"run_id":"{run_id}"'.encode()
    if not result.startswith(b"{"):
        return b'%b,"result":%b}' % (head, result)
    return head + (b"}" if result == b"{}" else b"," + result[1:])


def csv_table(result: bytes) -> bytes:
    """The solution as CSV with the header ``column,value``; only the header where there is none.

    Takes about a second for a million columns: call it in a thread.
    """
    try:
        solution = msgspec.json.decode(result, type=_Solution).solution
    except msgspec.ValidationError:  # a kind that returns something else
        solution = None
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("column", "value"))
    writer.writerows((solution or {}).items())
    return table.getvalue().encode()
