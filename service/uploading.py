"""A body on its way into PostgreSQL, a piece at a time: the service never holds the whole."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from control.errors import InvalidInput
from control.networks.uploads import PIECE, Uploads
from service import body
from service.problems import MALFORMED, Problem

FORM = "multipart/form-data"
ROLES = {
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "edges",
    "application/x-dimacs": "dimacs",
}
"""The media types of single files, and what each is."""

MEDIA = (*ROLES, FORM)
FIELDS = {"nodes": "nodes", "edges": "edges", "ndjson": "ndjson", "dimacs": "dimacs"}
"""The fields of a form that hold files, and what each is."""

_BLOCK = 256 << 10
_MAX_FILES = 64
_MAX_TEXT = 1_024
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


class StoredFile(msgspec.Struct, frozen=True):
    """A file that has been taken in: its name for people, and what it is."""

    name: str
    role: str


class Upload:
    """The files of one request; ``limit`` bounds all of them together, after decompression."""

    def __init__(self, uploads: Uploads, run_id: str, limit: int) -> None:
        self._uploads = uploads
        self._run_id = run_id
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()
        self.files: list[StoredFile] = []
        self.fields: dict[str, str] = {}
        """The other fields of a form."""

    @property
    def digest(self) -> str:
        """Tells whether two uploads hold the same."""
        return self._digest.hexdigest()

    async def take(self, request: web.Request, media: str) -> None:
        """Take in the whole request. Raises :class:`Problem` and :class:`StoreUnavailable`."""
        if media == FORM:
            await self._take_form(request)
        else:
            role = ROLES[media]
            await self._take_file("body", role, body.stream(request, max_body=self._limit))
        if not self.files:
            raise InvalidInput(f"has no file; its fields may be {', '.join(FIELDS)}", "body")

    async def _take_form(self, request: web.Request) -> None:
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Problem(MALFORMED, "Compress the files of a form, not the form.")
        await body.begin(request, max_body=self._limit)
        try:
            form = await request.multipart()
            patience = self._patience = body.Patience(request)
            while (part := await patience.of(form.next())) is not None:
                if isinstance(part, MultipartReader) or part.name is None:
                    raise InvalidInput("has a part that is no field", "body")
                await self._take_part(part, part.name)
        except (HttpProcessingError, ValueError, AssertionError, RuntimeError):
            # What aiohttp has for heads of parts is what it has for heads of requests.
            raise Problem(MALFORMED, "The body is not multipart/form-data.") from None

    async def _take_part(self, part: BodyPartReader, name: str) -> None:
        role = FIELDS.get(name)
        if role is None:
            self.fields[name] = await self._patience.of(_text(part, name))
            return
        if len(self.files) == _MAX_FILES:
            raise InvalidInput(f"has more than {_MAX_FILES} files", "body")
        packed = _is_gzip(part)
        shown = _UNPRINTABLE.sub("?", part.filename or name).removesuffix(".gz")[:128]
        await self._take_file(shown, role, self._part_blocks(part, gzip=packed))

    async def _part_blocks(self, part: BodyPartReader, *, gzip: bool) -> AsyncIterator[bytes]:
        inflater = body.Inflater("gzip", self._limit) if gzip else None
        patience = self._patience
        while block := patience.add(await patience.of(part.read_chunk(_BLOCK))):
            yield await asyncio.to_thread(inflater.feed, block) if inflater else block
        if inflater:
            inflater.finish()

    async def _take_file(self, name: str, role: str, blocks: AsyncIterator[bytes]) -> None:
        number, pieces = len(self.files), 0
        self.files.append(StoredFile(name, role))
        self._digest.update(msgspec.json.encode(["file", role]))
        waiting = bytearray()
        size = 0
        async for block in blocks:
            size += len(block)
            self._size += len(block)
            if self._size > self._limit:
                raise body.too_large(self._limit)
            self._digest.update(block)
            waiting += block
            while len(waiting) >= PIECE:
                await self._uploads.append(self._run_id, number, pieces, bytes(waiting[:PIECE]))
                del waiting[:PIECE]
                pieces += 1
        if not size:
            raise Problem(MALFORMED, f"The {name} is empty.")
        if waiting:
            await self._uploads.append(self._run_id, number, pieces, bytes(waiting))
        self._digest.update(msgspec.json.encode(["end", size]))


async def _text(part: BodyPartReader, name: str) -> str:
    """A field that is not a file."""
    data = bytearray()
    while block := await part.read_chunk(_MAX_TEXT):
        data += block
        if len(data) > _MAX_TEXT:
            raise InvalidInput(f"is longer than {_MAX_TEXT} bytes", name)
    return body.text(bytes(data)).strip()


def _is_gzip(part: BodyPartReader) -> bool:
    named = (part.filename or "").lower().endswith(".gz")
    kinds: Any = (part.headers.get("Content-Type", ""), part.headers.get("Content-Encoding", ""))
    return named or "application/gzip" in kinds[0] or kinds[1] in ("gzip", "x-gzip")
