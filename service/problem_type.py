"""What every kind of problem has: a name, a status, and words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ProblemType:
    """One kind of problem: the last part of its ``type``, its status, and what it means."""

    name: str
    status: int
    title: str
    meaning: str

    @property
    def uri(self) -> str:
        """The problem's ``type``: a reference relative to the API, where its meaning is told."""
        return f"/problems/{self.name}"
