"""Clients of the stores, and their faults as one error."""

from importlib import import_module

from control.imports import deferred, without

# redis-py would count for it, which nobody here asks for; and nobody uses a cluster. Before whoever
# else imports it.
with (
    without("opentelemetry"),
    deferred(
        "redis.asyncio.cluster",
        "redis.asyncio.keyspace_notifications",
        "redis.cluster",
        "redis.commands.cluster",
        "redis.keyspace_notifications",
    ),
):
    import_module("redis.asyncio")
