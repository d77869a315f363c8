"""What each status is called, and how it looks: a shape, a height, words; colours are in the CSS.

Nothing is told by colour alone. In the bars the worse a day was the taller it stands, so that the
picture is the same to who sees no colours.
"""

from dataclasses import dataclass

from control.status.states import Severity, Status


@dataclass(frozen=True)
class Look:
    """How a status is shown. ``name`` is the class in the CSS and the id of the shape."""

    name: str
    label: str
    headline: str
    """Of the whole page."""
    height: float
    """Of a day's bar, as a share."""


LOOKS = {
    Status.OPERATIONAL: Look("ok", "Operational", "All systems operational", 0.56),
    Status.DEGRADED: Look("degraded", "Degraded performance", "Degraded performance", 0.7),
    Status.PARTIAL_OUTAGE: Look("partial", "Partial outage", "Partial outage", 0.85),
    Status.MAJOR_OUTAGE: Look("major", "Major outage", "Major outage", 1.0),
    Status.UNDER_MAINTENANCE: Look("planned", "Under maintenance", "Under maintenance", 0.56),
    Status.UNKNOWN: Look("none", "Not known", "We cannot tell right now", 0.14),
}
SEVERITIES = {
    Severity.MINOR: Look("degraded", "Minor", "Minor incident", 0.0),
    Severity.MAJOR: Look("partial", "Major", "Major incident", 0.0),
    Severity.CRITICAL: Look("major", "Critical", "Critical incident", 0.0),
}
STAGES = {
    "investigating": "Investigating",
    "identified": "Identified",
    "monitoring": "Monitoring",
    "resolved": "Resolved",
    "scheduled": "Planned",
    "in_progress": "In progress",
    "completed": "Completed",
    "cancelled": "Cancelled",
}
