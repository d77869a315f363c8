"""Ask a running stack whatever its OpenAPI document allows: `python -m tests.fuzz` (needs uv).

Schemathesis makes the requests up and looks
for answers that are a server's error or that the document does not tell of. What moves flags
comes last, because a raised bridge refuses the rest. Ends with schemathesis's exit status.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.stack import Stack

TOOL = ("uvx", "--from", "schemathesis>=4.3,<5", "schemathesis", "run")
LOOK_FOR = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
STEERS = "^/control/|toggle|reset"
MODELS = """\
import schemathesis

schemathesis.serializer.alias(["application/x-lp", "application/x-mps"], "text/plain")
"""
"""Tells the tool how to send bodies of media types that it does not know."""

ENDLESS = "/control/events"
"""A stream that nothing ends."""


async def main() -> int:
    """Both passes; the worse of their exit statuses."""
    with tempfile.TemporaryDirectory() as folder:
        environ = {"DRAWBRIDGE_JOBS": "tests.models.user_kinds"}
        async with Stack(Path(folder) / "data", environ=environ) as stack:
            asked = (
                *TOOL, stack.api + "/openapi.json",
                "--header", f"Authorization: Bearer {stack.line['admin_token']}",
                "--checks", ",".join(LOOK_FOR), "--suppress-health-check", "all",
                "--request-timeout", "10", "--exclude-path", ENDLESS, *sys.argv[1:],
            )  # fmt: skip
            (Path(folder) / "models.py").write_text(MODELS)
            hooks = {**os.environ, "SCHEMATHESIS_HOOKS": "models", "PYTHONPATH": folder}
            ends = []
            for part in (("--exclude-path-regex", STEERS), ("--include-path-regex", STEERS)):
                process = await asyncio.create_subprocess_exec(*asked, *part, env=hooks)
                ends.append(await process.wait())
    return max(ends)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
