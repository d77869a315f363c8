"""What others read: RSS, Atom, the calendar, badges, and the JSON of Statuspage."""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import feedparser
import icalendar
import msgspec
import pytest

from control import ids
from control.status.states import IncidentStatus, Status
from control.status.view import Affected, Moved, StatusView, UpdateView, WindowView
from service.statuspage import badges, calendars, feeds, v2, v2_bodies
from service.statuspage.pages import Site
from service.statuspage.standing import stand
from tests.statuses import NOW, FakeBoard, changed, component, incident, resolved, view, window

SITE = Site("Drawbridge", "https://status.example.com")
ATOM = "{http://www.w3.org/2005/Atom}"
Write = Callable[[Site, Any, datetime], str]
FEEDS = {
    "/api/status/rss": feeds.updates_rss,
    "/history.rss": feeds.history_rss,
    "/history.atom": feeds.history_atom,
}
CONTROL = "a\x00b\x0b\x1f\ufffe <b>&amp; ]]>"


def busy() -> StatusView:
    return view(
        incidents=(incident("Slow <answers>"), resolved("Mails were late", timedelta(days=3))),
        windows=(window("Running", "in_progress"), window("Disks")),
    )


def written(write: Write, shown: StatusView, now: datetime = NOW) -> str:
    return write(SITE, stand(FakeBoard(shown)), now)


def parsed(write: Write, shown: StatusView) -> Any:
    found = feedparser.parse(written(write, shown).encode())
    assert not found.bozo, found.bozo_exception
    return found


@pytest.mark.parametrize(("path", "write"), FEEDS.items())
def test_each_feed_is_what_the_standards_ask_for(path: str, write: Write) -> None:
    text = written(write, busy())
    found = parsed(write, busy())
    assert found.encoding == "utf-8"
    root = ET.fromstring(text.encode())
    if path.endswith("atom"):  # RFC 4287, 4.1.1 and 4.1.2
        [own] = [each for each in root.findall(ATOM + "link") if each.get("rel") == "self"]
        assert found.version == "atom10"
        assert root.find(ATOM + "author") is not None
        for entry in (root, *root.findall(ATOM + "entry")):
            for needed in ("id", "title", "updated"):
                [one] = entry.findall(ATOM + needed)
                assert one.text
    else:  # RSS 2.0, with what the RSS profile and the W3C's validator ask for
        assert found.version == "rss20"
        [own] = root.findall(f"channel/{ATOM}link")
        assert own.get("rel") == "self"
        for needed in ("title", "link", "description", "lastBuildDate"):
            assert root.find(f"channel/{needed}").text  # type: ignore[union-attr]
        for guid in root.findall("channel/item/guid"):
            assert guid.get("isPermaLink") == "false"
    assert own.get("href") == SITE.url + path
    names = [entry.id for entry in found.entries]
    assert len(names) == len(set(names)) > 0
    assert all(name.startswith("urn:uuid:") for name in names)
    for entry in found.entries:
        assert entry.link.startswith(SITE.url + "/status/")
        assert entry.published_parsed
    moments = [entry.published_parsed for entry in found.entries]
    assert moments == sorted(moments, reverse=True)


def test_every_update_is_an_item_that_never_changes() -> None:
    shown = busy()
    before = {each.id: dict(each) for each in parsed(feeds.updates_rss, shown).entries}
    assert len(before) == 3 + 3 + 1 + 2  # updates; announcements; a beginning
    slow, late = shown.incidents
    more = UpdateView(id=ids.new_id(), status=IncidentStatus.RESOLVED, message="Over.", at=NOW)
    over = changed(
        slow, updates=(*slow.updates, more), status=IncidentStatus.RESOLVED, resolved_at=NOW,
        updated_at=NOW, resolution="Done.",
        components=(Affected("redis", "Redis", Status.MAJOR_OUTAGE),),
    )  # fmt: skip
    after = parsed(feeds.updates_rss, changed(shown, incidents=(over, late)))
    assert after.entries[0].title == "Resolved: Slow <answers>"
    items = {each.id: dict(each) for each in after.entries}
    assert {name: items[name] for name in before} == before
    assert items.keys() - before.keys() == {after.entries[0].id}


def test_a_window_that_moved_is_announced_again() -> None:
    planned = window("Disks")
    later = changed(planned, sequence=1, scheduled_end=planned.scheduled_end + timedelta(hours=1),
                    updated_at=NOW)  # fmt: skip
    [before] = parsed(feeds.updates_rss, view(windows=(planned,))).entries
    [after] = parsed(feeds.updates_rss, view(windows=(later,))).entries
    assert "(120 min)" in before.summary
    assert "(180 min)" in after.summary
    assert before.id != after.id


def series(title: str, status: str = "scheduled", **changes: Any) -> list[WindowView]:
    """Windows of one series, a week apart, as many as are made ahead."""
    name = ids.new_id()
    planned = [window(title, status, series=name, **changes) for _ in range(10)]
    return [
        changed(each, scheduled_start=each.scheduled_start + timedelta(weeks=number))
        for number, each in enumerate(planned)
    ]


def test_of_a_series_the_next_window_is_told_and_those_that_have_begun_or_ended() -> None:
    planned, ago = series("Backups"), NOW - timedelta(days=1)
    name = planned[0].series
    over = window("Backups", "completed", series=name, started_at=ago, ended_at=NOW)
    gone = window("Backups", "cancelled", series=name, ended_at=ago)
    shown = view(windows=(over, gone, *planned, window("Disks")))
    titles = [each.title for each in parsed(feeds.updates_rss, shown).entries]
    assert sorted(titles) == [
        "Cancelled: Backups", "Completed: Backups", "In progress: Backups", "Planned: Backups",
        "Planned: Backups", "Planned: Backups", "Planned: Disks",
    ]  # fmt: skip
    links = {each.link.rpartition("/")[2] for each in parsed(feeds.updates_rss, shown).entries}
    assert links == {over.id, gone.id, planned[0].id, shown.windows[-1].id}


def test_a_series_that_was_called_off_is_told_so_once() -> None:
    gone = series("Backups", "cancelled", ended_at=NOW)
    found = parsed(feeds.updates_rss, view(windows=tuple(gone))).entries
    assert [each.title for each in found] == ["Cancelled: Backups", "Planned: Backups"]
    assert all(each.link.endswith(gone[0].id) for each in found), "the one that was the next"


def test_neither_incidents_nor_windows_push_out_the_other() -> None:
    late = resolved("Mails were late", timedelta(days=60))
    planned = tuple(window(f"Planned {number}") for number in range(150))
    titles = [
        each.title
        for each in parsed(feeds.updates_rss, view(incidents=(late,), windows=planned)).entries
    ]
    assert sum(title.endswith("Mails were late") for title in titles) == len(late.updates)
    assert sum(title.startswith("Planned:") for title in titles) == 100
    bad_month = tuple(incident(f"Incident {number}") for number in range(50))
    titles = [
        each.title
        for each in parsed(
            feeds.updates_rss, view(incidents=bad_month, windows=(window("Disks"),))
        ).entries
    ]
    assert "Planned: Disks" in titles
    assert len(titles) == 100 + 1


@pytest.mark.parametrize("write", [feeds.history_rss, feeds.history_atom])
def test_the_history_has_one_entry_for_each_incident(write: Write) -> None:
    shown = busy()
    [slow, late] = parsed(write, shown).entries
    assert slow.title == "Slow <answers> (monitoring)"
    assert "A disk is full" in slow.summary
    assert slow.summary.index("fast again") < slow.summary.index("looking into")
    assert late.title == "Mails were late (resolved)"
    assert slow.link == f"{SITE.url}/status/incidents/{shown.incidents[0].id}"


@pytest.mark.parametrize("write", FEEDS.values(), ids=FEEDS.keys())
def test_a_feed_is_dated_by_its_news_even_if_there_are_none(write: Write) -> None:
    for shown in (view(), busy()):
        assert written(write, shown) == written(write, shown, NOW + timedelta(days=3))
    newer = view(last_updated=NOW)
    assert written(write, view()) != written(write, newer)


@pytest.mark.parametrize("write", FEEDS.values(), ids=FEEDS.keys())
def test_no_character_breaks_a_feed(write: Write) -> None:
    bad = incident(CONTROL, updates=(
        UpdateView(id=ids.new_id(), status=IncidentStatus.IDENTIFIED, message=CONTROL, at=NOW),
    ), components=(Affected("x", CONTROL, Status.DEGRADED),))  # fmt: skip
    found = parsed(write, view(incidents=(bad,), windows=(window(CONTROL, description=CONTROL),)))
    assert found.entries
    assert any("ab <b>&amp; ]]>" in entry.title for entry in found.entries)


def test_the_calendar_is_read_back_as_it_was_meant() -> None:
    gone = changed(window("Gone", "cancelled"), sequence=2)
    running = window("Läuft\n; alt, \\ " + "sehr " * 40, "in_progress", description="**bold**")
    shown = view(windows=(running, window("Disks"), gone))
    text = calendars.calendar(SITE, stand(FakeBoard(shown)), NOW)
    assert all(len(line) <= 75 for line in text.split(b"\r\n"))
    made = icalendar.Calendar.from_ical(text)
    assert made["version"] == "2.0"
    assert made["prodid"]
    events = list(made.walk("VEVENT"))
    assert len({event["uid"] for event in events}) == 3
    for event, meant in zip(events, shown.windows, strict=True):
        assert event["uid"] == f"{meant.id}@drawbridge"
        assert event.decoded("dtstart") == meant.scheduled_start
        assert event.decoded("dtend") == meant.scheduled_end
        assert event.decoded("dtstamp") == meant.updated_at
        assert event.decoded("dtstart").tzinfo is not None
        assert event["url"] == f"{SITE.url}/status/maintenance/{meant.id}"
    assert str(events[0]["summary"]) == running.title
    assert str(events[0]["description"]) == "bold"
    assert [str(event["status"]) for event in events] == ["CONFIRMED", "CONFIRMED", "CANCELLED"]
    assert int(events[2]["sequence"]) == 2


@pytest.mark.parametrize("status", Status)
def test_a_badge_is_a_picture_that_also_says_it(status: Status) -> None:
    picture = badges.badge('API "<x>&\x00', status)
    root = ET.fromstring(picture)
    assert root.get("role") == "img"
    said = root.get("aria-label")
    assert said is not None
    assert said.startswith('API "<x>&: ')
    assert "style" not in picture
    assert "script" not in picture
    assert ("operational" in said) is (status is Status.OPERATIONAL)


PAGE = {"id", "name", "url", "time_zone", "updated_at"}
COMPONENT = {
    "id", "name", "status", "created_at", "updated_at", "position", "description", "showcase",
    "start_date", "group_id", "page_id", "group", "only_show_if_degraded",
}  # fmt: skip
INCIDENT = {
    "id", "name", "status", "created_at", "updated_at", "monitoring_at", "resolved_at", "impact",
    "shortlink", "started_at", "page_id", "incident_updates", "components", "reminder_intervals",
}  # fmt: skip
MAINTENANCE = (INCIDENT - {"reminder_intervals"}) | {"scheduled_for", "scheduled_until"}
UPDATE = {
    "id", "status", "body", "incident_id", "created_at", "updated_at", "display_at",
    "affected_components", "deliver_notifications", "custom_tweet", "tweet_id",
}  # fmt: skip
DOCUMENTS: dict[str, tuple[Any, type, set[str]]] = {
    "summary": (v2.summary, v2_bodies.Summary,
                {"page", "components", "incidents", "scheduled_maintenances", "status"}),
    "status": (v2.status, v2_bodies.StatusDocument, {"page", "status"}),
    "components": (v2.components, v2_bodies.Components, {"page", "components"}),
    "incidents": (v2.incidents, v2_bodies.Incidents, {"page", "incidents"}),
    "unresolved": (v2.unresolved, v2_bodies.Incidents, {"page", "incidents"}),
    "maintenances": (v2.maintenances, v2_bodies.Maintenances, {"page", "scheduled_maintenances"}),
    "upcoming": (v2.upcoming, v2_bodies.Maintenances, {"page", "scheduled_maintenances"}),
    "active": (v2.active, v2_bodies.Maintenances, {"page", "scheduled_maintenances"}),
}  # fmt: skip


def document(shape: Any, shown: StatusView, *, stale: bool = False) -> dict[str, Any]:
    made = msgspec.json.encode(shape(SITE, stand(FakeBoard(shown, stale)), NOW))
    found: dict[str, Any] = msgspec.json.decode(made)
    return found


@pytest.mark.parametrize(("shape", "kind", "members"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_the_json_has_the_fields_and_the_words_of_statuspage(
    shape: Any, kind: type, members: set[str]
) -> None:
    shown = changed(
        busy(),
        components=tuple(component(f"is {status}", status) for status in Status),
    )
    told = document(shape, shown)
    assert told.keys() == members
    msgspec.convert(told, kind, strict=True)  # its enumerations are closed
    assert told["page"].keys() == PAGE
    for each in told.get("components", ()):
        assert each.keys() == COMPONENT
    for each in told.get("incidents", ()):
        assert each.keys() == INCIDENT
    for each in told.get("scheduled_maintenances", ()):
        assert each.keys() == MAINTENANCE
        assert each["impact"] == "maintenance"
    for each in (*told.get("incidents", ()), *told.get("scheduled_maintenances", ())):
        assert each["shortlink"].startswith(SITE.url + "/status/")
        assert all(part.keys() == COMPONENT for part in each["components"])
        moments = []
        for update in each["incident_updates"]:
            assert update.keys() == UPDATE
            assert update["incident_id"] == each["id"]
            moments.append(update["display_at"])
        assert moments == sorted(moments, reverse=True)
        moment = datetime.fromisoformat(each["started_at"])
        assert moment.tzinfo == UTC
        assert each["started_at"].endswith("Z")
        assert len(each["started_at"]) == len("2026-11-27T20:31:00.000Z")


def test_each_list_has_what_belongs_to_it() -> None:
    shown = busy()
    shown = changed(shown, windows=(
        window("Done", "completed", started_at=NOW, ended_at=NOW), *shown.windows,
        window("Gone", "cancelled"),
    ))  # fmt: skip

    def names(shape: Any, part: str) -> list[str]:
        return [each["name"] for each in document(shape, shown)[part]]

    windows = "scheduled_maintenances"
    assert names(v2.incidents, "incidents") == ["Slow <answers>", "Mails were late"]
    assert names(v2.unresolved, "incidents") == ["Slow <answers>"]
    assert names(v2.summary, "incidents") == ["Slow <answers>"]
    assert names(v2.summary, windows) == ["Running", "Disks"]
    assert names(v2.upcoming, windows) == ["Disks"]
    assert names(v2.active, windows) == ["Running"]
    assert set(names(v2.maintenances, windows)) == {"Done", "Running", "Disks"}
    [done] = [each for each in document(v2.maintenances, shown)[windows] if each["name"] == "Done"]
    assert [each["status"] for each in done["incident_updates"]] == [
        "completed", "in_progress", "scheduled",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "word", "indicator", "description"),
    [
        (Status.OPERATIONAL, "operational", "none", "All Systems Operational"),
        (Status.DEGRADED, "degraded_performance", "minor", "Partially Degraded Service"),
        (Status.PARTIAL_OUTAGE, "partial_outage", "major", "Partial System Outage"),
        (Status.MAJOR_OUTAGE, "major_outage", "critical", "Major Service Outage"),
        (Status.UNDER_MAINTENANCE, "under_maintenance", "maintenance", "Service Under Maintenance"),
        (Status.UNKNOWN, "degraded_performance", "minor", "Partially Degraded Service"),
    ],
)
def test_each_status_in_the_words_of_statuspage(
    status: Status, word: str, indicator: str, description: str
) -> None:
    told = document(v2.summary, view([component("API", status)]))
    assert told["components"][0]["status"] == word
    assert told["status"] == {"indicator": indicator, "description": description}
    assert word in get_args(v2_bodies.ComponentStatus)


def test_an_incident_of_no_component_is_told_and_old_news_is_not_green() -> None:
    alone = view(incidents=(incident("x", "minor", components=()),))
    assert document(v2.status, alone)["status"] == {
        "indicator": "minor", "description": "Minor Service Outage",
    }  # fmt: skip
    old = document(v2.summary, view(), stale=True)
    assert old["status"]["indicator"] == "minor"
    assert {each["status"] for each in old["components"]} == {"degraded_performance"}


def test_updates_say_what_they_changed() -> None:
    moved = (Moved("api", "API", Status.OPERATIONAL, Status.UNKNOWN),)
    said = UpdateView(id=ids.new_id(), status=IncidentStatus.IDENTIFIED, message="*x*", at=NOW,
                      affected=moved)  # fmt: skip
    told = document(v2.unresolved, view(incidents=(incident("x", updates=(said,)),)))
    [update] = told["incidents"][0]["incident_updates"]
    assert update["body"] == "*x*"
    assert update["affected_components"] == [{
        "code": "api", "name": "API", "old_status": "operational",
        "new_status": "degraded_performance",
    }]  # fmt: skip
