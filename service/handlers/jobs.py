"""Jobs over HTTP: read, list, follow and cancel; the same for `/jobs` and for a kind's own path."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from control.errors import InvalidInput
from control.ids import is_id
from service import auth, deadline, inputs, negotiation, results, sse
from service.appkeys import ARCHIVE, CLOSING, FEED, GATE, JOBS
from service.inputs import Moment
from service.problems import NO_RESULT, NOT_FINISHED, NOT_FOUND, Problem
from worker.jobs.archive import Described, Wanted
from worker.jobs.errors import JobFinished, UnknownJob
from worker.jobs.feed import is_event_id
from worker.jobs.job import JobRecord, JobState
from worker.jobs.timetable import Periodic

_JSON = msgspec.json.Encoder()


class Links(msgspec.Struct, frozen=True):
    """Where a job's parts are."""

    status: str
    result: str
    events: str
    cancel: str


class JobView(JobRecord, frozen=True, kw_only=True):
    """A job's record, and where its parts are."""

    links: Links


class JobList(msgspec.Struct, frozen=True):
    """A page of jobs, newest first; ``cursor`` fetches the next one, null at the end."""

    jobs: list[JobView]
    cursor: str | None


class ArchiveQuery(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs of the archive to list: :class:`Wanted`, as a query says it."""

    since: Moment | None = None
    until: Moment | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None


class PeriodicList(msgspec.Struct, frozen=True):
    """The periodic kinds, the next one first."""

    schedules: list[Periodic]


class ListQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs to list."""

    status: JobState | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None


class KindsQuery(ListQuery, frozen=True, forbid_unknown_fields=True):
    """The same among jobs of every kind; ``parent``: those that this job submitted."""

    kind: str | None = None
    parent: str | None = None


class EventsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where to go on; for clients that cannot send the header ``Last-Event-ID``."""

    last_event_id: str | None = None


@dataclass(frozen=True)
class JobHandlers:
    """The handlers of the jobs under ``path``; of one ``kind``, or of all."""

    path: str
    kind: str | None = None

    @property
    def query(self) -> type[ListQuery]:
        """What a listing may be asked for."""
        return KindsQuery if self.kind is None else ListQuery

    async def list(self, request: web.Request) -> web.Response:
        """A page of jobs, newest first."""
        query = inputs.query(request, self.query)
        only = msgspec.structs.asdict(query)
        kind = only.pop("kind", self.kind)
        async with deadline.redis():
            page = await request.app[JOBS].list_jobs(kinds=None if kind is None else [kind], **only)
        return answer(JobList([self.view(record) for record in page.jobs], page.cursor))

    async def record(self, request: web.Request) -> web.Response:
        """The record of one job, with its live progress."""
        return answer(self.view(await self._found(request)))

    async def result(self, request: web.Request) -> web.Response:
        """What the job returned, as JSON or CSV; a flow as GraphML and as a picture too."""
        accept = request.headers.get("Accept")
        negotiation.choose(accept, results.MEDIA)
        record = await self._found(request)
        stored, size = None, 0
        if record.status.finished:
            async with deadline.redis():
                stored = await request.app[JOBS].get_result(record.run_id)
            if stored is None:
                stored, size = await request.app[ARCHIVE].result(record.run_id)
        if stored is None:
            raise _without_result(record, size)
        media = negotiation.choose(accept, results.offers(stored))
        headers = {"Vary": "Accept", "Cache-Control": "no-store"}
        if media == results.JSON:
            body = results.with_run_id(stored, record.run_id)
        else:
            body = await asyncio.to_thread(results.represented, stored, media)
        if media == results.SVG:
            headers["Content-Security-Policy"] = results.PICTURE_POLICY
        return web.Response(body=body, content_type=media, charset="utf-8", headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """The job's events, past and coming, as Server-Sent Events."""
        query = inputs.query(request, EventsQuery)
        last_id = request.headers.get("Last-Event-ID") or query.last_event_id
        if last_id is not None and not is_event_id(last_id):
            raise InvalidInput("is not the id of an event", "Last-Event-ID")
        async with deadline.redis():
            record = await self.find(request)
            seen_all = (
                last_id is not None
                and record.status.finished
                and not await request.app[JOBS].events_after(record.run_id, last_id)
            )
        if seen_all:
            return web.Response(status=204)  # tells an EventSource not to come back
        following = request.app[FEED].follow(record.run_id, last_id)
        async with aclosing(following) as events:
            ends = [request.app[CLOSING].wait(), *request.app[GATE].ending(request)]
            return await sse.stream(request, events, until=ends)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel the job: at once if it waits, within a second if it runs."""
        record = await self._found(request)
        auth.require_owner(request, record)
        if record.status.finished:
            raise JobFinished(record.run_id, record.status)
        async with deadline.redis():
            await request.app[JOBS].cancel_job(record.run_id)
            record = await self.find(request)
        return answer(self.view(record), status=202)

    async def rerun(self, request: web.Request) -> web.Response:
        """Queue the job again, if it failed."""
        async with deadline.redis():
            record = await self.find(request)
            auth.require_owner(request, record)
            await request.app[JOBS].rerun_job(record.run_id)
            record = await self.find(request)
        return answer(self.view(record), status=202)

    async def find(self, request: web.Request) -> JobRecord:
        """The job that the path names. Raises :class:`UnknownJob`, for another kind's job too."""
        run_id = request.match_info["run_id"]
        record = await request.app[JOBS].get_job(run_id) if is_id(run_id) else None
        return self._of_this_kind(run_id, record)

    async def _found(self, request: web.Request) -> JobRecord:
        """The same, of the archive where Redis no longer has it."""
        run_id = request.match_info["run_id"]
        record = None
        if is_id(run_id):
            async with deadline.redis():
                record = await request.app[JOBS].get_job(run_id)
            record = record or await request.app[ARCHIVE].get(run_id)
        return self._of_this_kind(run_id, record)

    def _of_this_kind(self, run_id: str, record: JobRecord | None) -> JobRecord:
        if record is None or self.kind not in (None, record.kind):
            raise UnknownJob(run_id)
        return record

    def view(self, record: JobRecord) -> JobView:
        """The record as the API shows it."""
        return JobView(**msgspec.structs.asdict(record), links=self.links(record.run_id))

    def links(self, run_id: str) -> Links:
        """Where the parts of a job are."""
        at = f"{self.path}/{run_id}"
        return Links(f"{at}/status", f"{at}/result", f"{at}/events", at)


async def schedules(request: web.Request) -> web.Response:
    """The periodic kinds that workers declare, and when each runs."""
    async with deadline.redis():
        return answer(PeriodicList(await request.app[JOBS].schedules()))


async def archive(request: web.Request) -> web.Response:
    """A page of the jobs in the archive, the last one to end first."""
    query = inputs.query(request, ArchiveQuery)
    wanted = msgspec.structs.asdict(query)
    limit, cursor = wanted.pop("limit"), wanted.pop("cursor")
    for name in ("since", "until"):
        if wanted[name] is not None:
            wanted[name] = inputs.moment(wanted[name], name)
    page = await request.app[ARCHIVE].page(Wanted(**wanted), limit=limit, cursor=cursor)
    views = [JobHandlers("/jobs").view(record) for record in page.jobs]
    return answer(JobList(views, page.cursor))


def answer(document: object, status: int = 200, **headers: str) -> web.Response:
    """``document`` as a JSON answer that nobody may store."""
    return web.Response(
        body=_JSON.encode(document),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **headers},
    )


def _without_result(record: JobRecord, size: int) -> Problem:
    """Why there is none; ``size`` is that of one that was not archived."""
    members = {"job_status": record.status.value}
    if size:
        return Problem(NOT_FOUND, f"The result, {size} bytes, was too large to be archived.")
    if record.status.finished:
        why = f": {record.error.message}" if record.error else ""
        ended = "was cancelled" if record.status is JobState.CANCELLED else record.status.value
        return Problem(NO_RESULT, f"The job {ended} without a result{why}.", members)
    return Problem(NOT_FINISHED, f"The job is {record.status.value}.", members)
