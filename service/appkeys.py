"""What the application gives its handlers, and what the middleware knows of a request."""

import asyncio

from aiohttp import web

from control.clock import Clock
from control.config import ServiceSection
from control.entrance_settings import EntranceSection
from control.flags.plane import ControlPlane
from control.health.engine import Engine
from control.health.probes import Probes
from control.jwt_tokens import JwtVerifier
from control.networks.catalogue import Catalogue
from control.networks.uploads import Uploads
from control.principals import Keyring, Principal
from control.status.page import StatusPage
from control.subscribers.roster import Roster
from service.bypass import Bypass
from service.callbacks import Callbacks
from service.clients import Clients
from service.gate import Gate
from service.health_pages import HealthPages
from service.limits import Attempts, Limits
from service.problems import Problem
from service.statuspage.site import StatusSite
from service.subscriptions import Subscriptions
from worker.jobs.archive import Archive
from worker.jobs.feed import EventFeed
from worker.jobs.kinds import Kind, Kinds
from worker.jobs.manager import JobStateManager

ENTRANCE = web.AppKey("entrance", EntranceSection)
CONFIG = web.AppKey("config", ServiceSection)
JOBS = web.AppKey("jobs", JobStateManager)
FEED = web.AppKey("feed", EventFeed)
KINDS = web.AppKey("kinds", Kinds)
"""Those that callers may submit."""

INGEST = web.AppKey("ingest", Kind)
"""The kind of the jobs that store networks."""

UPLOADS = web.AppKey("uploads", Uploads)
NETWORKS = web.AppKey("networks", Catalogue)

CALLBACKS = web.AppKey("callbacks", Callbacks)
FLAGS = web.AppKey[frozenset[str]]("flags", frozenset)
"""The names of all flags that are declared."""

PLANE = web.AppKey("plane", ControlPlane)
GATE = web.AppKey("gate", Gate)
BYPASS = web.AppKey("bypass", Bypass)
HEALTH = web.AppKey("health", Engine)
STATUS = web.AppKey("status", StatusPage)
STATUS_SITE = web.AppKey("status_site", StatusSite)
STATUS_URL = web.AppKey("status_url", str)
"""Where the public finds the status page; empty: where each caller does."""

PROBES = web.AppKey("probes", Probes)
HEALTH_PAGES = web.AppKey("health_pages", HealthPages)
CLOCK = web.AppKey[Clock]("clock", object)  # type: ignore[arg-type]
CLIENTS = web.AppKey("clients", Clients)
STATUS_TITLE = web.AppKey("status_title", str)
"""Whose status page it is."""

ROSTER = web.AppKey("roster", Roster)
SUBSCRIPTIONS = web.AppKey("subscriptions", Subscriptions)
KEYRING = web.AppKey("keyring", Keyring)
JWT = web.AppKey[JwtVerifier | None]("jwt", object)  # type: ignore[arg-type]
"""Where JWTs are taken; ``None`` where the configuration names no issuer."""

LIMITS = web.AppKey[Limits | None]("limits", object)  # type: ignore[arg-type]
"""``None`` where everybody may ask as often as they like."""

ATTEMPTS = web.AppKey("attempts", Attempts)
ARCHIVE = web.AppKey("archive", Archive)

OPENAPI = web.AppKey("openapi", bytes)
"""The OpenAPI document, as JSON."""

CLOSING = web.AppKey("closing", asyncio.Event)
"""Set when the service stops: event streams end and their clients go on elsewhere."""

REQUEST_ID = web.RequestKey("request_id", str)
RUN_ID = web.RequestKey("run_id", str)
"""The job that a request made."""
PROBLEM = web.RequestKey("problem", Problem)
"""What the request was answered with, if it was an error."""

TRACEPARENT = web.RequestKey("traceparent", str)
"""What names the request's own span, where spans are made."""

PRINCIPAL = web.RequestKey("principal", Principal)
