"""What a worker has for its ingest jobs."""

from control.clock import Clock
from control.networks.schema import Schema
from control.networks.uploads import Uploads
from control.stores.graph import Graph
from worker.ingest.lamp import Lamp
from worker.jobs.manager import JobStateManager


class IngestStores:
    """The stores and the flag; what works with them is loaded with the first job."""

    def __init__(
        self, graph: Graph, uploads: Uploads, lamp: Lamp, jobs: JobStateManager, clock: Clock
    ) -> None:
        self.graph = graph
        self.schema = Schema(graph)
        self.uploads = uploads
        self.lamp = lamp
        self.jobs = jobs
        self.clock = clock
