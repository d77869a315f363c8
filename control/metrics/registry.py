"""The metrics of one process, in Prometheus's text form or OpenMetrics'.

Everything is read from memory at the scrape: none runs a check or sends a command to a store.
"""

import platform

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import InfoMetricFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from control import __version__
from control.metrics.tally import Families

TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"


class Metrics:
    """A registry of this process's own; ``process`` is service or worker."""

    def __init__(self, process: str, *collectors: Collector) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        for collector in (_Build(process), *collectors):
            self._registry.register(collector)

    def add(self, collector: Collector) -> None:
        """Have ``collector`` asked at each scrape."""
        self._registry.register(collector)

    async def page(self, request: web.Request) -> web.Response:
        """All metrics as they stand now; as OpenMetrics for who accepts that."""
        open_form = OPENMETRICS in request.headers.get("Accept", "")
        encode = openmetrics.generate_latest if open_form else generate_latest
        media = openmetrics.CONTENT_TYPE_LATEST if open_form else CONTENT_TYPE_PLAIN_0_0_4
        headers = {"Cache-Control": "no-store", "Content-Type": media, "Vary": "Accept"}
        return web.Response(body=encode(self._registry), headers=headers)


class _Build(Collector):
    def __init__(self, process: str) -> None:
        self._told = {
            "version": __version__,
            "process": process,
            "python": platform.python_version(),
        }

    def collect(self) -> Families:
        yield InfoMetricFamily("drawbridge_build", "What runs here.", self._told)
