"""Brings the jobs of dead workers back: at the moment a lease runs out, not by looking for it."""

from control import logs
from control.errors import StoreUnavailable
from worker.alarm import Alarm
from worker.leases import Lease


class Rescuer:
    """Wakes by the alarm that heartbeats set to the earliest end of another's lease."""

    def __init__(self, lost: Alarm, lease: Lease) -> None:
        self._lost = lost
        self._lease = lease
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """Rescue for ever."""
        while True:
            await self._lost.ring()
            try:
                rescued = await self._lease.rescue()
            except StoreUnavailable:
                continue  # the next heartbeat that succeeds sets the alarm again
            if isinstance(rescued, float):
                self._lost.move(rescued)
                continue
            for job in rescued:
                self._log.warning(
                    "job rescued", run_id=job.run_id, lost_worker=job.worker, outcome=job.outcome
                )
            await self._lease.beat_now()
