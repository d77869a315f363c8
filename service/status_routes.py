"""The routes of the status page's API; a part of the table in :mod:`service.routes`."""

from service import problems as p
from service import status_bodies as b
from service.auth import Access
from service.handlers import status, status_changes
from service.routing import JSON, Answer, Route, ok

_ROOT = "/api/status"
_INCIDENT, _WINDOW = _ROOT + "/incidents/{incident}", _ROOT + "/maintenance/{window}"
_COMPONENT = _ROOT + "/components/{component}"
_CHANGE = (p.INVALID, p.FORBIDDEN)
_ON = (*_CHANGE, p.NOT_FOUND, p.ILLEGAL)
_BARE = (p.FORBIDDEN, p.NOT_FOUND, p.ILLEGAL)
_FROM_MEMORY = (
    "Answered from memory, also while PostgreSQL and Redis are away; `Age` says how old it is then."
)
_RAISES = (
    "With `raise_bridge` maintenance mode goes on at the start and off at the end by itself, once, "
    "whichever instances live. A bridge that was raised or set anew by hand stays up; one that was "
    "lowered by hand stays down."
)


def table() -> tuple[Route, ...]:
    """What everybody may read, and what operators and administrators may change."""
    return (*_reads(), *_incidents(), *_windows(), *_components())


def _reads() -> tuple[Route, ...]:
    tag, anyone = "Status", Access.PUBLIC
    rows = (
        (_ROOT, status.whole, "How everything is", b.StatusBody, None, ()),
        (_ROOT + "/components", status.components, "Every component", b.ComponentList, None, ()),
        (_COMPONENT, status.component, "A component and its uptime", b.ComponentBody, None,
         (p.NOT_FOUND,)),
        (_ROOT + "/incidents", status.incidents, "The incidents of a period, newest first",
         b.IncidentList, b.IncidentsQuery, (p.INVALID,)),
        (_INCIDENT, status.incident, "An incident", b.IncidentDetail, None, (p.NOT_FOUND,)),
        (_ROOT + "/maintenance", status.windows, "The maintenance windows", b.WindowList,
         b.WindowsQuery, (p.INVALID,)),
        (_WINDOW, status.window, "A maintenance window", b.WindowDetail, None, (p.NOT_FOUND,)),
    )  # fmt: skip
    return tuple(
        Route("GET", path, handler, anyone, tag, summary, ok(body), _FROM_MEMORY, query=query,
              refusals=refusals, slash=True)
        for path, handler, summary, body, query, refusals in rows
    )  # fmt: skip


def _incidents() -> tuple[Route, ...]:
    tag, only, one, c = "Status", Access.ADMINISTRATOR, ok(b.IncidentDetail), status_changes
    made = ok(b.IncidentDetail, "Opened", status=201, Location="where it is")
    return (
        Route("POST", _ROOT + "/incidents/create", c.create_incident, only, tag,
              "Open an incident", made, body={JSON: b.IncidentCreate}, refusals=_CHANGE,
              slash=True),
        Route("GET", _ROOT + "/incidents/drafts", c.drafts, only, tag,
              "Incidents that checks opened and nobody has published", ok(b.Drafts),
              refusals=(p.FORBIDDEN,), slash=True),
        Route("POST", _INCIDENT + "/updates", c.update_incident, only, tag,
              "Say one more word on an incident", one,
              "A draft is published by it. Nothing more can be said of one that is resolved.",
              body={JSON: b.IncidentUpdate}, refusals=_ON, slash=True),
        Route("POST", _INCIDENT + "/resolve", c.resolve_incident, only, tag,
              "Resolve an incident", one,
              "A draft is closed without telling anybody. Of one that an update has resolved, the "
              "root cause and the resolution are entered, once; nobody is told again.",
              body={JSON: b.IncidentResolve}, refusals=_ON, slash=True),
        Route("POST", _INCIDENT + "/publish", c.publish_incident, only, tag,
              "Publish a draft as it stands", one, refusals=_BARE, slash=True),
        Route("POST", _ROOT + "/health-check", status.look, only, tag,
              "Check every component now", ok(b.Looked), refusals=(p.FORBIDDEN,), slash=True),
    )  # fmt: skip


def _windows() -> tuple[Route, ...]:
    tag, only, one, c = "Status", Access.OPERATOR, ok(b.WindowDetail), status_changes
    made = ok(b.WindowDetail, "Made", status=201, Location="where it is")
    root = _ROOT + "/maintenance"
    return (
        *(
            Route("POST", path, c.create_window, only, tag, f"Plan maintenance{also}", made,
                  _RAISES, body={JSON: b.WindowCreate}, refusals=_CHANGE, slash=True)
            for path, also in ((root, ""), (root + "/create", " (the same)"))
        ),
        Route("PATCH", _WINDOW, c.change_window, only, tag, "Change a window", one,
              body={JSON: b.WindowPatch}, refusals=_ON, slash=True),
        Route("POST", _WINDOW + "/extend", c.extend_window, only, tag,
              "Let a window take longer", one, body={JSON: b.WindowExtend}, refusals=_ON,
              slash=True),
        Route("POST", _WINDOW + "/finish", c.finish_window, only, tag, "End a window now", one,
              refusals=_BARE, slash=True),
        Route("POST", _WINDOW + "/cancel", c.cancel_window, only, tag,
              "Call off a window that has not begun", one, refusals=_BARE, slash=True),
        Route("POST", root + "/series/{series}/cancel", c.cancel_series, only, tag,
              "Call off what is to come of a recurring window", ok(b.WindowList),
              refusals=_BARE, slash=True),
    )  # fmt: skip


def _components() -> tuple[Route, ...]:
    tag, only, one, c = "Status", Access.ADMINISTRATOR, ok(b.ComponentBody), status_changes
    return (
        Route("POST", _ROOT + "/components", c.create_component, only, tag, "Make a component",
              ok(b.ComponentBody, "Made", status=201), body={JSON: b.ComponentCreate},
              refusals=(*_CHANGE, p.ILLEGAL), slash=True),
        Route("PATCH", _COMPONENT, c.change_component, only, tag, "Change a component", one,
              "Those of the configuration are changed there.", body={JSON: b.ComponentPatch},
              refusals=_ON, slash=True),
        Route("DELETE", _COMPONENT, c.retire_component, only, tag, "Show a component no longer",
              {204: Answer("It is shown no longer")}, refusals=_BARE, slash=True),
        Route("PUT", _COMPONENT + "/override", c.override_component, only, tag,
              "Declare how a component is, for a while", one,
              "For checks that are wrong. Incidents still show where they are worse.",
              body={JSON: b.Override}, refusals=_ON, slash=True),
        Route("DELETE", _COMPONENT + "/override", c.release_component, only, tag,
              "Let its checks speak for a component again", one, refusals=_BARE, slash=True),
    )  # fmt: skip
