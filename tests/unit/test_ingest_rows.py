"""What the parsers of nodes and edges make of files, whatever pieces they come in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.networks.loading import NewArc, NewNode
from worker.ingest.dimacs import Dimacs
from worker.ingest.documents import Documents
from worker.ingest.rows import BadRow, Line, Parser
from worker.ingest.tables import EDGES, NODES, Table


def parsed(parser: Parser, text: str | bytes, size: int = 1 << 20) -> list[Line | BadRow]:
    data = text.encode() if isinstance(text, str) else text
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [row for piece in pieces for row in parser.feed(piece)] + list(parser.finish())


def rows(parser: Parser, text: str) -> list[NewNode | NewArc]:
    found = parsed(parser, text)
    assert not [row for row in found if isinstance(row, BadRow)]
    return [row.row for row in found if isinstance(row, Line)]


def test_a_table_of_nodes_with_attributes() -> None:
    text = 'id,supply,country,plz,pop,note\na,5,DE,01067,7.5,"x, ""y""\nz"\nb,-5,,,,\nc,,FR,1,2,\n'
    assert rows(Table(NODES), text) == [
        NewNode("a", 5.0, {"country": "DE", "plz": "01067", "pop": 7.5, "note": 'x, "y"\nz'}),
        NewNode("b", -5.0, {}),
        NewNode("c", 0.0, {"country": "FR", "plz": 1, "pop": 2}),
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_of_edges(mark: str, end: str) -> None:
    lines = (
        "Target,Source,Cost,capacity,mode,flow",
        "b,a,1.5,10,rail,3",
        "b,a,-2,,,",
        "",
        "c,b,0,inf,,",
    )
    text = "\ufeff" + end.join(lines).replace(",", mark)
    assert rows(Table(EDGES), text) == [
        NewArc("a", "b", 1.5, 10.0, 0.0, {"mode": "rail"}),
        NewArc("a", "b", -2.0, None, 0.0, {}),
        NewArc("b", "c", 0.0, None, 0.0, {}),
    ]


@given(st.integers(1, 40))
def test_pieces_do_not_matter(size: int) -> None:
    table = 'id,supply,note\n"a""\n",1,"x\ny"\r\nb,2,\n"c\n\n",x,\nd,4,"ü"'
    assert parsed(Table(NODES), table, size) == parsed(Table(NODES), table)
    lines = '{"id": "ü", "supply": 1}\n\n{"source": "a"}\n[1]\n{"id": "b"}'
    assert parsed(Documents(), lines, size) == parsed(Documents(), lines)
    graph = "c x\np min 3 1\nn 2 4\na 1 2 0 4 1\nq"
    assert parsed(Dimacs(), graph, size) == parsed(Dimacs(), graph)


@given(st.binary(max_size=300))
def test_no_bytes_break_a_parser(data: bytes) -> None:
    for parser in (Table(NODES), Table(EDGES), Documents(), Dimacs()):
        parsed(parser, data, 7)
    parsed(Table(NODES), b"id,supply\n" + data, 11)
    parsed(Dimacs(), b"p min 2 2\n" + data, 11)


EDGE = "source,target,cost,capacity,lower\n"


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "the file has no header"),
        ("a,b\n1,2\n", 1, "the header lacks the column source"),
        ("source,target,cost,cost\n", 1, "the header has the column cost twice"),
        ("source,target,cost,network_seq\n", 1, "the name of an attribute is reserved"),
        (EDGE + "a,b,1,2,0\na,b,x,2,0\n", 3, "cost is not a number: 'x'"),
        (EDGE + "a,b,nan,2,0\n", 2, "cost is not a number"),
        (EDGE + "a,b,1_0,2,0\n", 2, "cost is not a number"),
        (EDGE + "a,b,1e999,2,0\n", 2, "cost is not a number"),
        (EDGE + "a,b,,2,0\n", 2, "cost is missing"),
        (EDGE + ",b,1,2,0\n", 2, "source is missing"),
        (EDGE + "a,b,1,-2,0\n", 2, "capacity is below 0"),
        (EDGE + "a,b,1,2,3\n", 2, "lower is above capacity: 3 > 2"),
        (EDGE + "a,b,1,2,-3\n", 2, "lower is below 0"),
        (EDGE + "a,b,1\n", 2, "has 3 fields, the header has 5"),
        (EDGE + '"a"b,c,1,2,0\n', 2, "is not CSV"),
        (EDGE + '"a,b,1,2,0\n' + "x" * (1 << 20), 2, "is a quote not closed?"),
    ],
)
def test_a_wrong_edge_is_told_by_its_line(text: str, line: int, reason: str) -> None:
    [bad] = [row for row in parsed(Table(EDGES), text) if isinstance(row, BadRow)]
    assert bad.line == line
    assert reason in bad.reason


def test_latin1_is_told() -> None:
    found = parsed(Table(NODES), "id,supply\na,1\n\xfc,2\n".encode("latin-1"))
    assert found == [BadRow(3, "is not UTF-8")]


def test_lines_of_json() -> None:
    text = (
        '{"type": "edge", "source": "a", "target": 7, "cost": 1, "capacity": null, "open": true}\n'
        '{"id": 7, "supply": -2.5}\n{"type": "node", "id": "a", "supply": 2.5, "name": "A"}\n'
    )
    assert rows(Documents(), text) == [
        NewArc("a", "7", 1.0, None, 0.0, {"open": True}),
        NewNode("7", -2.5, {}),
        NewNode("a", 2.5, {"name": "A"}),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"type": "road"}', "type is neither"),
        ('{"type": []}', "type is neither"),
        ('{"id": true}', "id is not text"),
        ('{"id": "a", "supply": true}', "supply is not a number: True"),
        ('{"id": "a", "x": [1]}', "the attribute x is not text"),
        ('{"id": "a", "x": 99999999999999999999}', "the attribute x is too large"),
        ('{"source": "a", "target": "b"}', "cost is missing"),
        ('{"source": "a", "target": "b", "cost": null}', "cost is missing"),
        ('{"id": "a", "supply": 1e400}', "holds a number that is out of range"),
        ('{"source": "a", "target": "b", "cost": 1, "supply": 3}', "reserved: supply"),
    ],
)
def test_a_wrong_line_of_json(text: str, reason: str) -> None:
    [bad] = parsed(Documents(), '{"id": "fine"}\n' + text)[1:]
    assert isinstance(bad, BadRow)
    assert bad.line == 2
    assert reason in bad.reason


def test_dimacs() -> None:
    text = "c a comment\np min 4 2\nn 1 4\nn 4 -4\na 1 2 1 4 2\na 2 4 0 -1 -1\n"
    assert rows(Dimacs(), text) == [
        NewNode("1", 4.0), NewNode("4", -4.0),
        NewArc("1", "2", 2.0, 4.0, 1.0), NewArc("2", "4", -1.0, None, 0.0),
        NewNode("2", 0.0), NewNode("3", 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", 1, "ends without a line p min"),
        ("p max 2 1\n", 1, "is not p min"),
        ("a 1 2 0 1 1\n", 1, "comes before the line p min"),
        ("p min 2 1\na 1 3 0 1 1\n", 2, "there is no node 3: they are 1 to 2"),
        ("p min 2 0\nn 1 1\nn 1 1\n", 3, "node 1 has a second line"),
        ("p min 2 1\n", 2, "the file has 0 arcs, its line p announces 1"),
        ("p min 2 0\nx\n", 2, "is not understood: 'x'"),
        ("p min 999999999 0\n", 1, "announces more than"),
    ],
)
def test_wrong_dimacs(text: str, line: int, reason: str) -> None:
    bad = [row for row in parsed(Dimacs(), text) if isinstance(row, BadRow)]
    assert bad[0].line == line
    assert reason in bad[0].reason
