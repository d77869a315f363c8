"""Every state that the status page can be in, as somebody might see it."""

from datetime import timedelta

from control.status.states import IncidentStatus, Status
from control.status.view import Affected, Bridge, UpdateView
from control.subscribers.channel import Channel
from control.subscribers.roster import Component, Subscriber
from service.statuspage import pages, subscribing
from service.statuspage.pages import Month, Site
from service.statuspage.standing import stand
from service.statuspage.subscribing import Given
from tests.statuses import (
    NAMES,
    NOW,
    FakeBoard,
    changed,
    component,
    day,
    incident,
    resolved,
    view,
    window,
)

SITE = Site("Drawbridge", "https://status.example.com")
BRIDGE = Bridge("database upgrade", NOW - timedelta(minutes=5), NOW + timedelta(minutes=20), "full")
_TROUBLED = ((3, 17, 40), (), (12, 13, 14, 15), (), (70,), (), (2,), ())
_PAST = (
    resolved("Slow uploads", timedelta(days=2)),
    resolved("Mails were late", timedelta(days=6), "major"),
)
_LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 4


def front(board: FakeBoard) -> str:
    """The front page of what ``board`` shows."""
    return pages.status_page(SITE, stand(board), NOW)


def boards() -> dict[str, FakeBoard]:
    """Boards, by the state that they show."""
    well = [component(name, troubled=days) for name, days in zip(NAMES, _TROUBLED, strict=True)]
    well[0] = changed(well[0], description="Requests are taken and answered")
    under = [component(name, Status.UNDER_MAINTENANCE) for name in NAMES]
    return {
        "green": FakeBoard(view(well, incidents=_PAST, windows=(window("Larger disks"),))),
        "plain": FakeBoard(view()),
        "fire": _fire(),
        "maintenance": FakeBoard(view(under, bridge=BRIDGE)),
        "read-only": FakeBoard(view(well, bridge=changed(BRIDGE, mode="read_only"))),
        "window": FakeBoard(view(well, windows=(window("Mail servers", "in_progress"),))),
        "stale": FakeBoard(view(well, incidents=_PAST), stale=True),
        "local": FakeBoard(view(well, local=True), stale=True),
        "never-read": FakeBoard(view(), known=False),
        "empty": FakeBoard(view([])),
        "long": _long(),
    }


def _fire() -> FakeBoard:
    dark = tuple(day(each.date, Status.UNKNOWN) for each in component("x").days)
    shown = [
        component("API", Status.PARTIAL_OUTAGE, (0, 3)),
        component("Database", Status.DEGRADED, (0,)),
        component("File Storage", Status.UNKNOWN, days=dark, uptime_30=None, uptime_60=None,
                  uptime_90=None),
        component("Email Service", Status.UNDER_MAINTENANCE),
        component("Authentication", Status.MAJOR_OUTAGE, range(8)),
        component("Workers"),
    ]  # fmt: skip
    first = incident(
        "Nobody can sign in", "critical", status=IncidentStatus.INVESTIGATING,
        next_update_at=NOW + timedelta(minutes=20),
        components=(Affected("authentication", "Authentication", Status.MAJOR_OUTAGE),
                    Affected("api", "API", Status.PARTIAL_OUTAGE)),
    )  # fmt: skip
    second = incident(
        "Slow answers from the API", next_update_at=NOW - timedelta(minutes=10),
        estimated_resolution=NOW + timedelta(minutes=50),
    )  # fmt: skip
    planned = (window("Mail servers", "in_progress"), window("Larger disks"))
    return FakeBoard(view(shown, incidents=(first, second, *_PAST), windows=planned))


def _long() -> FakeBoard:
    code, table = f"```\n{'x' * 200}\n```", "| a | b |\n|--|--|\n|1|2|"
    text = f"{_LONG}\n\n- one\n- two\n\n{code}\n\n> quoted\n\n{table}"
    said = tuple(
        UpdateView(id=f"01M8F000000000000000000{n:03}", status=IncidentStatus.INVESTIGATING,
                   message=text, at=NOW)
        for n in range(5)
    )  # fmt: skip
    shown = changed(
        component("x", Status.DEGRADED), name=_LONG[:100], description="Many words. " * 40
    )
    long = incident("A long title that goes on and on " * 6, "minor", updates=said)
    planned = window(_LONG[:90], description="Many words. " * 60)
    return FakeBoard(view([shown], incidents=(long,), windows=(planned,)))


def every_page() -> dict[str, str]:
    """Every page in every state, as HTML."""
    first = NOW.date().replace(day=1)
    told = Month(first, (incident("Slow"), *_PAST), (window("Disks"),))
    return {
        **{name: front(board) for name, board in boards().items()},
        "incident": pages.incident_page(SITE, incident("Slow"), NOW),
        "resolved": pages.incident_page(SITE, _PAST[1], NOW),
        "window-page": pages.window_page(SITE, window("Disks"), NOW),
        "history": pages.history_page(SITE, told, NOW),
        "old-history": pages.history_page(SITE, Month(first, (), None), NOW),
        "missing": pages.missing_page(SITE),
        "unreadable": pages.unreadable_page(SITE),
        "widget": pages.widget_page(SITE, stand(FakeBoard(view()))),
    }


def subscription_pages() -> dict[str, str]:
    """The pages on which people subscribe, change and end it."""
    token = "m" * 57
    known = [Component(name.lower(), name) for name in ("API", "Database", "A long name " * 8)]
    one = Subscriber(
        id="01KB0000000000000000000000", channel=Channel.EMAIL, address="ada@example.org",
        components=("api",), state="quarantined", failures=3, detail="its mailbox was refused",
        created_at=NOW, confirmed_at=NOW,
    )  # fmt: skip
    wrong = Given("sms", "+49 " * 40, ("api",))
    return {
        "subscribe": subscribing.subscribe_page(SITE, list(Channel), known, Given()),
        "subscribe-wrong": subscribing.subscribe_page(SITE, list(Channel), known, wrong, "No."),
        "subscribe-asked": subscribing.asked_page(SITE, Channel.WEBHOOK, "whsec_" + "A" * 44),
        "subscribe-confirm": subscribing.confirm_page(SITE, token, one),
        "subscribe-manage": subscribing.manage_page(SITE, token, one, known, saved=True),
        "subscribe-end": subscribing.end_page(SITE, token),
    }
