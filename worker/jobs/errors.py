"""What can be wrong with a request about a job."""

from control.errors import DrawbridgeError, InvalidInput
from worker.jobs.job import JobState


class UnknownJob(DrawbridgeError):
    """No job has this run id, or its record has expired."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no job {run_id} is known")
        self.run_id = run_id


class JobFinished(DrawbridgeError):
    """The job has ended; nothing can change it any more."""

    def __init__(self, run_id: str, status: JobState) -> None:
        super().__init__(f"job {run_id} has already ended as {status.value}")
        self.run_id = run_id
        self.status = status


class JobNotFailed(DrawbridgeError):
    """Only a job that failed can be run again."""

    def __init__(self, run_id: str, status: JobState) -> None:
        super().__init__(f"job {run_id} is {status.value}; only a failed one can be run again")
        self.run_id = run_id
        self.status = status


class UniqueKeyTaken(DrawbridgeError):
    """Another live job has the unique key of a job that was to run again."""

    def __init__(self, run_id: str, holder: str) -> None:
        super().__init__(f"job {holder} has the unique key of job {run_id}, and has not ended yet")
        self.run_id = run_id
        self.holder = holder


class KeyReused(InvalidInput):
    """The Idempotency-Key was used before, for another body."""

    def __init__(self) -> None:
        super().__init__("this key was used before with another body", "Idempotency-Key")


class StaleToken(DrawbridgeError):
    """The caller no longer holds the job: it was lost, handed on, cancelled or finished."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"job {run_id} is no longer held under this token")
        self.run_id = run_id


class IllegalTransition(DrawbridgeError):
    """No rule leads to this state by this way."""


class WorkerLost(DrawbridgeError):
    """This worker's lease has run out; its jobs belong to others now."""
