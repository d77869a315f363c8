"""Clients of the stores, and their faults as one error."""

from importlib import import_module

from control.imports import without

# redis-py would count for it, which nobody here asks for. Before whoever else imports it.
with without("opentelemetry"):
    import_module("redis.asyncio")
