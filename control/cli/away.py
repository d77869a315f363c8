"""What to do next where a command finds no store."""

import contextlib
from collections.abc import Iterator

from control.config import Config
from control.errors import StoreUnavailable

_VARIABLES = {"redis": "REDIS_URL", "database": "DATABASE_URL", "neo4j": "NEO4J_URI"}


@contextlib.contextmanager
def advised(config: Config, *, api: bool = False) -> Iterator[None]:
    """Have a :class:`StoreUnavailable` of the block say what to do next.

    ``api``: the command may ask a service instead. Where neither the environment nor a running
    stack says where the store is, it was looked for where it mostly is.
    """
    try:
        yield
    except StoreUnavailable as error:
        variable = _VARIABLES.get(error.dependency)
        found = error.reason != "connection failed" or variable in config.sources
        if variable and not found:
            told = f". Is it running? `drawbridge up` starts everything; {variable} names one"
            told += " elsewhere, --api URL a service" if api else " elsewhere"
        elif api and variable == "REDIS_URL":
            told = "; a service may still be reached: --api URL"
        else:
            raise
        raise StoreUnavailable(error.dependency, error.reason + told) from error
