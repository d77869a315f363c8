"""Metrics: what Prometheus reads of a process."""

from importlib import import_module

from control.imports import deferred

# Ours are counted without its locks (tally.py). Before whoever imports a part of it.
with deferred("prometheus_client.metrics"):
    import_module("prometheus_client")
