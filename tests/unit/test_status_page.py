"""The status page as it is rendered: never green over a fire, safe, small, stable, readable."""

import base64
import gzip
import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from control.status.states import IncidentStatus, Status
from control.status.view import Affected, StatusView, UpdateView
from service.statuspage import bars, pages, prose, templates
from service.statuspage.pages import Month, Site
from service.statuspage.standing import stand
from tests.markup import Page, words
from tests.status_states import BRIDGE, SITE, boards, every_page, front
from tests.statuses import (
    NAMES,
    NOW,
    FakeBoard,
    changed,
    component,
    incident,
    resolved,
    view,
    window,
)

GREEN = "All systems operational"


def fires() -> Iterator[tuple[str, FakeBoard]]:
    for status in Status:
        if status is not Status.OPERATIONAL:
            shown = [component("API", status), component("Database")]
            yield f"a component is {status}", FakeBoard(view(shown))
            # Whatever the whole is said to be.
            yield (
                f"and the whole is not, {status}",
                FakeBoard(view(shown, overall=Status.OPERATIONAL)),
            )
    for severity in ("minor", "major", "critical"):
        yield f"a {severity} incident", FakeBoard(view(incidents=(incident("x", severity),)))
        alone = incident("x", severity, components=())
        yield f"a {severity} incident of nothing", FakeBoard(view(incidents=(alone,)))
    yield "the bridge is up", FakeBoard(view(bridge=BRIDGE))
    yield "the bridge is half up", FakeBoard(view(bridge=changed(BRIDGE, mode="read_only")))
    yield "a window runs", FakeBoard(view(windows=(window("x", "in_progress"),)))
    yield "the records cannot be read", FakeBoard(view(), stale=True)
    yield "and this instance looks itself", FakeBoard(view(local=True), stale=True)
    yield "they were never read", FakeBoard(view(), known=False)
    yield "nothing is watched", FakeBoard(view([]))


FIRES = dict(fires())


@pytest.mark.parametrize("board", FIRES.values(), ids=FIRES.keys())
def test_it_is_never_green_over_a_fire(board: FakeBoard) -> None:
    page = front(board)
    assert GREEN not in page
    assert 'class="card banner ok"' not in page
    assert pages.widget_page(SITE, stand(board)).count('card box ok"') == 0


def test_it_is_green_when_all_is_well() -> None:
    page = front(FakeBoard(view(incidents=(resolved("old", timedelta(days=2)),),
                                windows=(window("to come"),))))  # fmt: skip
    assert GREEN in page
    assert 'class="card banner ok"' in page


def test_old_news_is_dated_and_no_component_counts_as_well() -> None:
    shown = [component("API"), component("Database", Status.MAJOR_OUTAGE)]
    text = words(front(FakeBoard(view(shown), stale=True)))
    assert "We cannot read our records" in text
    assert "27 Nov 2026, 20:31 UTC" in text
    assert "API Not known" in text
    assert "Database Major outage" in text


def test_what_this_instance_sees_itself_is_shown_with_the_age_of_the_rest() -> None:
    text = words(front(FakeBoard(view(local=True), stale=True)))
    assert "what this server finds itself" in text
    assert "27 Nov 2026, 20:31 UTC" in text
    assert "API Operational" in text


def test_maintenance_mode_says_why_and_until_when() -> None:
    text = words(front(FakeBoard(view(bridge=BRIDGE))))
    assert "Under maintenance" in text
    assert "Reason: database upgrade" in text
    assert "Expected to end by 27 Nov 2026, 20:51 UTC" in text
    late = changed(BRIDGE, until=NOW - timedelta(minutes=1))
    assert "it is taking longer" in words(front(FakeBoard(view(bridge=late))))
    half = changed(BRIDGE, mode="read_only")
    assert "Reading works" in words(front(FakeBoard(view(bridge=half))))


def test_incidents_say_when_they_end_and_when_more_is_said() -> None:
    soon, past = NOW + timedelta(minutes=9), NOW - timedelta(minutes=9)
    told = incident("Slow", estimated_resolution=soon, next_update_at=soon)
    text = words(front(FakeBoard(view(incidents=(told,)))))
    assert "Expected to be resolved by 27 Nov 2026, 20:40 UTC" in text
    assert "Next update by 27 Nov 2026, 20:40 UTC" in text
    assert "overdue" not in text
    late = changed(told, next_update_at=past)
    assert "An update is overdue" in words(front(FakeBoard(view(incidents=(late,)))))
    assert "An update is overdue" in words(pages.incident_page(SITE, late, NOW))
    over = changed(late, resolved_at=NOW, status=IncidentStatus.RESOLVED)
    assert "overdue" not in words(pages.incident_page(SITE, over, NOW))


PAGES = {**{name: front(board) for name, board in FIRES.items()}, **every_page()}


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES.keys())
def test_each_page_is_well_made_and_needs_nothing_else(text: str) -> None:
    page = Page(text)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    assert page.all("html") == [{"lang": "en"}]
    targets = {each["href"] for each in page.all("use")}
    assert targets <= {f"#{each}" for each in ids}
    for tag, attributes in page.elements:
        assert not attributes.keys() & {"style", "src", "srcset", "action"}, tag
        assert not [name for name in attributes if name.startswith("on")], tag
    for link in page.all("link"):
        assert link["rel"] in ("icon", "alternate")  # nothing is loaded to show the page
    for moment in page.all("time"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(moment["datetime"]))


@pytest.mark.parametrize("text", PAGES.values(), ids=PAGES.keys())
def test_the_policy_allows_our_style_and_our_script_alone(text: str) -> None:
    page, policy = Page(text), templates.policy()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL)
        assert len(page.all(tag)) == 1
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert len(templates.SCRIPT.encode()) <= 1024


EVIL = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "'-alert(1)-'",
    "{{ 7*7 }}{% raw %}",
    "[click](javascript:alert(1))",
    "[click](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](https://evil.example/x.png)",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    '[a](https://x.example/"onmouseover=alert(1))',
    "<a href='//x' style='position:fixed;inset:0'>x</a>",
    "</title><script>alert(1)</script>",
    "<style>*{display:none}</style>",
    "`<b>`\n\n<!-- <script> -->",
    "\x00\x08\ud800\u202emirrored",
)


def poisoned(evil: str) -> StatusView:
    update = UpdateView(id="01M8F0000000000000000000A0", status=IncidentStatus.IDENTIFIED,
                        message=evil, at=NOW)  # fmt: skip
    bad = incident(evil, description=evil, updates=(update,), root_cause=evil, resolution=evil,
                   components=(Affected("api", evil, Status.DEGRADED),))  # fmt: skip
    done = changed(bad, id="01M8F0000000000000000000A1", resolved_at=NOW,
                   status=IncidentStatus.RESOLVED)  # fmt: skip
    planned = window(evil, description=evil)
    running = window(evil, "in_progress", description=evil)
    return view([changed(component("x", Status.DEGRADED), name=evil, description=evil)],
                incidents=(bad, done), windows=(planned, running),
                bridge=changed(BRIDGE, reason=evil))  # fmt: skip


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_that_is_written_runs(evil: str) -> None:
    bad = poisoned(evil)
    standing, site = stand(FakeBoard(bad)), Site(evil, "https://status.example.com")
    month = Month(NOW.date().replace(day=1), bad.incidents, bad.windows)
    for text in (
        pages.status_page(site, standing, NOW), pages.incident_page(site, bad.incidents[0], NOW),
        pages.incident_page(site, bad.incidents[1], NOW),
        pages.window_page(site, bad.windows[0], NOW), pages.history_page(site, month, NOW),
        pages.widget_page(site, standing), pages.missing_page(site),
    ):  # fmt: skip
        page = Page(text)
        text.encode("utf-8")
        assert len(page.all("script")) == len(page.all("style")) == 1
        assert not {tag for tag, _ in page.elements} & {"img", "iframe", "object", "form", "base"}
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")], tag
            assert "style" not in attributes
            link = attributes.get("href") or "/"
            assert re.match(r"https?://|mailto:|/(?!/)|#|data:image/svg\+xml,", link), link
        assert "49" not in words(text).replace("2049", "")
        assert "\u202e" not in text


def test_markdown_is_kept_as_far_as_it_is_safe() -> None:
    html = prose.rendered("# Title\n\n**bold** [l](https://x.example) <b>raw</b>\n\n- one\n- two")
    assert "<h4>Title</h4>" in html  # no heading of an update outranks those of the page
    assert "<strong>bold</strong>" in html
    assert 'rel="nofollow noopener noreferrer ugc"' in html
    assert "&lt;b&gt;raw" in html
    assert "<li>one</li>" in html
    assert prose.plain("**bold** [link](https://x.example)\nnext") == "bold link\nnext"
    assert prose.shortened("one two three four", 12) == "one two…"


def full() -> FakeBoard:
    """About the most that a page shows at once."""
    names = (*NAMES, "Search", "Billing")
    shown = [component(name, Status.DEGRADED, range(0, 90, 3 + number % 4))
             for number, name in enumerate(names)]  # fmt: skip
    return FakeBoard(view(
        shown, bridge=BRIDGE,
        incidents=(*(incident(f"Trouble {n}") for n in range(4)),
                   *(resolved(f"Past {n}", timedelta(days=n)) for n in range(1, 12))),
        windows=(window("Now", "in_progress"), *(window(f"Later {n}") for n in range(8))),
    ))  # fmt: skip


@pytest.mark.parametrize("board", [boards()["green"], full()], ids=["green", "full"])
def test_the_page_weighs_little(board: FakeBoard) -> None:
    assert len(gzip.compress(front(board).encode(), 6)) <= 15_000


def test_the_bars_the_table_and_the_words_tell_of_the_same_days() -> None:
    shown = component("API", troubled=(0, 1, 2, 3, 50))
    drawn, rows = bars.bars(shown.days), bars.rows(shown.days)
    assert len(drawn) == sum(row.days for row in rows) == 90
    assert [bar.look for bar in drawn[-4:]] == ["planned", "major", "partial", "degraded"]
    assert [row.look.name for row in rows[:4]] == ["degraded", "partial", "major", "planned"]
    assert rows[0].says == "degraded 7 min"
    assert rows[4].days == 46
    # Each status stands differently tall, or in pieces: who sees no colours sees the same.
    assert len({re.sub(r"M[\d.]+", "M", bar.path) for bar in drawn}) == 5
    assert "4 with trouble" in templates.picture(shown)
    page = Page(front(FakeBoard(view([shown]))))
    [picture] = [each for each in page.all("svg") if each.get("class") == "bars"]
    assert picture["role"] == "img"
    assert picture["aria-label"] == templates.picture(shown)
    assert len(page.inside["title"]) == 1 + 90
    assert len(page.all("table")) == 1
    assert {each.get("scope") for each in page.all("th")} == {"col", "row"}


def test_today_is_at_least_as_bad_as_the_present() -> None:
    now = bars.days(component("API", Status.MAJOR_OUTAGE, (1,)))
    assert [(bar.look, bar.says.partition(": ")[2]) for bar in bars.bars(now)[-2:]] == [
        ("degraded", "degraded 8 min"), ("major", "major outage"),
    ]  # fmt: skip
    for status, troubled in (
        (Status.UNKNOWN, ()),
        (Status.OPERATIONAL, (0,)),
        (Status.DEGRADED, (0,)),
    ):
        shown = component("API", status, troubled)
        assert bars.days(shown) == shown.days


def test_shares_are_never_rounded_up() -> None:
    told = [templates.percent(share) for share in (100.0, 99.9999, 99.996, 0.0, None)]
    assert told == ["100 % uptime", "99.99 % uptime", "99.99 % uptime", "0 % uptime",
                    "No record yet"]  # fmt: skip


def colours(theme: str) -> dict[str, str]:
    style = str(templates.STYLE)
    blocks = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    block = blocks[theme == "dark"]
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block))
    return {name: "#" + "".join(c * 2 for c in value[1:]) if len(value) == 4 else value
            for name, value in found.items()}  # fmt: skip


def luminance(colour: str) -> float:
    """Of sRGB, as WCAG 2.2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(one: str, other: str, share: float) -> str:
    parts = [(int(one[i : i + 2], 16), int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in parts)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    """4.5 for text and 3 for marks (WCAG 2.2, 1.4.3 and 1.4.11), also on the tint of the banner."""
    c = colours(theme)
    marks = ("ok", "degraded", "partial", "major", "planned", "none")
    for ground in ("card", "page"):
        for text in ("ink", "soft", "link"):
            assert contrast(c[text], c[ground]) >= 4.5, (text, ground)
        for mark in marks:
            assert contrast(c[mark], c[ground]) >= 3, (mark, ground)
    for mark in marks:
        tint = mixed(c[mark], c["card"], 0.09)
        assert contrast(c["ink"], tint) >= 4.5
        assert contrast(c[mark], tint) >= 3, (mark, "banner")
        bar = mixed(c[mark], c["card"], 0.75 if (mark, theme) == ("ok", "dark") else 1.0)
        assert contrast(bar, c["card"]) >= 3, (mark, "bar")
