"""How pages and feeds are kept and sent: compressed, tagged, sent once, new when there is news."""

import gzip
from dataclasses import replace
from datetime import timedelta
from typing import Any

from aiohttp.test_utils import make_mocked_request

from control.status.view import Bridge
from service.statuspage import pages, press, templates
from service.statuspage.pages import Site
from service.statuspage.press import Press
from service.statuspage.standing import stand
from tests.clocks import ManualClock
from tests.statuses import NOW, FakeBoard, changed, incident, view

SITE = Site("Drawbridge", "https://status.example.com")
BRIDGE = Bridge("database upgrade", NOW, NOW + timedelta(minutes=20), "full")


def front(board: FakeBoard) -> str:
    return pages.status_page(SITE, stand(board), NOW)


def ask(made: press.Printed, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return made.to(make_mocked_request("GET", "/status", headers=named))


def at_now() -> ManualClock:
    clock = ManualClock()
    clock.passed_s = (NOW - clock.now()).total_seconds()
    return clock


def printing(board: FakeBoard, clock: ManualClock) -> tuple[Press, Any]:
    shop = Press(board, clock)

    def page() -> press.Printed:
        return shop.print("front", lambda standing, now: press.printed(
            pages.status_page(SITE, standing, now), "text/html", policy="none"
        ))  # fmt: skip

    return shop, page


def test_the_tag_stays_while_nothing_is_news_and_moves_at_once_when_something_is() -> None:
    clock, board = at_now(), FakeBoard(view())
    _, page = printing(board, clock)
    first = page()
    board.view = changed(board.view, as_of=NOW + timedelta(seconds=2))
    assert page() is first
    clock.passed_s += 3600
    checked = [changed(each, last_checked=NOW + timedelta(hours=1))
               for each in board.view.components]  # fmt: skip
    board.view = changed(board.view, components=tuple(checked), as_of=NOW + timedelta(hours=1))
    assert page().tag == first.tag
    # Another instance prints the same.
    assert printing(FakeBoard(view()), at_now())[1]().tag == first.tag
    board.view = changed(board.view, bridge=BRIDGE)
    raised = page()
    assert raised.tag != first.tag
    board.stale = True
    assert page().tag != raised.tag
    board.stale, board.view = False, changed(board.view, bridge=None)
    assert page().tag == first.tag


def test_an_update_becomes_overdue_by_itself() -> None:
    clock = at_now()
    told = incident("Slow", next_update_at=NOW + timedelta(seconds=30))
    _, page = printing(FakeBoard(view(incidents=(told,))), clock)
    assert b"overdue" not in page().body
    clock.passed_s += 31
    assert b"overdue" in page().body


def test_the_answer_is_compressed_and_tagged_and_not_sent_twice() -> None:
    made = press.printed(front(FakeBoard(view())), "text/html", policy=templates.policy())
    plain = ask(made)
    assert plain.status == 200
    assert plain.body == made.body
    zipped = ask(made, Accept_Encoding="br, gzip")
    assert gzip.decompress(zipped.body) == made.body
    assert zipped.headers["ETag"] != plain.headers["ETag"]  # strong: of these very bytes
    assert zipped.headers["Vary"] == "Accept-Encoding"
    for known in (plain.headers["ETag"], zipped.headers["ETag"], f'"x", W/{plain.headers["ETag"]}',
                  "*"):  # fmt: skip
        again = ask(made, If_None_Match=known, Accept_Encoding="gzip")
        assert again.status == 304
        assert not again.body
        assert again.headers["ETag"] == zipped.headers["ETag"]
        assert "Content-Encoding" not in again.headers
    assert ask(made, If_None_Match='"other"').status == 200
    for refused in ("gzip;q=0", "identity", "gzip; q=0.0"):
        assert "Content-Encoding" not in ask(made, Accept_Encoding=refused).headers
    gone = ask(replace(made, status=404), If_None_Match="*")
    assert gone.status == 404
    assert gone.headers["Cache-Control"] == "no-store"
