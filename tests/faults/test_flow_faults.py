"""A job over a network whose worker is killed: another one computes the flow and writes it back."""

import signal

import psutil
import pytest

from control import graph_migrations
from control.networks.catalogue import Catalogue
from control.networks.loading import NewArc, NewNode
from control.stores.graph import Graph
from tests.conftest import LiveStores
from tests.faults.conftest import Jobs, StartWorker
from tests.networks import store
from tests.stack import all_gone
from worker.jobs.job import JobState

pytestmark = pytest.mark.graph


async def test_kill_9_of_a_worker_in_the_middle_of_a_flow(
    stores: LiveStores, jobs: Jobs, worker: StartWorker
) -> None:
    async with Graph(stores.config.graph) as graph:
        await graph_migrations.migrate(graph)
        nodes = [NewNode("a", 2), NewNode("b", -2)]
        await store(graph, "killed", nodes, [NewArc("a", "b", 3, None, 0)])
        payload = {"problem": {"format": "network", "network": "killed"}, "write_back": True}
        stores.freeze("graph")  # so that there is a middle
        try:
            async with worker() as one:
                run_id = await jobs.submit("optimize", payload)
                await jobs.progress(run_id, lambda told: told["phase"] == "reading")
                children = psutil.Process(one.pid).children(recursive=True)
                assert children
                one.send(signal.SIGKILL)
                await all_gone(children)
        finally:
            stores.thaw("graph")
        async with worker() as two:
            await two.logged("job ended", run_id=run_id, status="completed")
        record = await jobs.record(run_id)
        assert (record.status, record.attempt) == (JobState.COMPLETED, 2)
        assert (await jobs.result(run_id))["objective"] == 6
        flow = (await Catalogue(graph).get("killed")).flow
    assert flow is not None
    assert (flow.run_id, flow.objective) == (run_id, 6)
