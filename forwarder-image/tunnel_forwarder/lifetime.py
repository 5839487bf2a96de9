"""When a forwarder ends by itself."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class EndReason(StrEnum):
    """Why a forwarder ended, in its termination message."""

    EXPIRED = "Expired"
    IDLE = "Idle"
    DRAINED = "Drained"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The deadline, and how long the forwarder may go without a byte (0: for ever)."""

    expires_at: datetime
    idle_seconds: int = 0

    def seconds_left(self, now: datetime, idle_for: float) -> float:
        """Return the seconds until the forwarder ends if no byte comes; never below 0."""
        left = (self.expires_at - now).total_seconds()
        if self.idle_seconds:
            left = min(left, self.idle_seconds - idle_for)
        return max(0.0, left)

    def end(self, now: datetime, idle_for: float) -> EndReason | None:
        """Return why the forwarder ends now, or None when it does not."""
        if now >= self.expires_at:
            return EndReason.EXPIRED
        if self.idle_seconds and idle_for >= self.idle_seconds:
            return EndReason.IDLE
        return None
