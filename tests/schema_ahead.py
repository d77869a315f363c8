"""A plugin for the tests of an older release: databases get a newer release's schema first.

``tests/previous.py`` puts it on the older release's path. It changes one function: where those
tests migrate a database, ``$SCHEMA_AHEAD`` (the newer release's `drawbridge`) does so before.
"""

import asyncio
import os

from control import migrations
from control.migrations import Migration

AHEAD = os.environ.pop("SCHEMA_AHEAD")
_own = migrations.migrate


async def migrate(url: str) -> tuple[Migration, ...]:
    """The newer schema, then whatever the older release says to it."""
    variables = {**os.environ, "DATABASE_URL": url}
    child = await asyncio.create_subprocess_exec(AHEAD, "migrate", "--quiet", env=variables)
    assert await child.wait() == 0, "the newer release could not migrate"
    return await _own(url)


migrations.migrate = migrate
