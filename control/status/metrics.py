"""What `/metrics` tells of the status page, from memory."""

from prometheus_client.registry import Collector

from control.metrics.tally import Families, gauge, value
from control.status.board import StatusBoard
from control.status.keeper import Keeper
from control.status.states import Status, WindowStatus


class StatusMetrics(Collector):
    """How components are, what is open, what is planned, and how old that knowledge is."""

    def __init__(self, board: StatusBoard, keeper: Keeper) -> None:
        self._board = board
        self._keeper = keeper

    def collect(self) -> Families:
        view = self._board.view
        yield gauge(
            "drawbridge_status_component", "1 for how the component is.", ("component", "status"),
            {
                (each.id, status.value): float(each.status is status)
                for each in view.components
                for status in Status
            },
        )  # fmt: skip
        meaning = "Incidents that are published and not resolved."
        yield value("drawbridge_status_incidents_open", meaning, len(view.open_incidents))
        planned = (WindowStatus.SCHEDULED, WindowStatus.IN_PROGRESS)
        yield gauge(
            "drawbridge_status_windows", "Maintenance windows that are not over.", ("status",),
            {(status.value,): float(len(view.windows_of(status))) for status in planned},
        )  # fmt: skip
        meaning = "1 on the instance that looks at components and moves windows."
        yield value("drawbridge_status_keeper", meaning, self._keeper.in_office)
        if (age_s := self._board.age_s) is not None:
            meaning = "Since PostgreSQL last proved what the status page tells."
            yield value("drawbridge_status_age_seconds", meaning, age_s)
