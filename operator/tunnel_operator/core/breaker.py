"""When a device that keeps failing is asked again: a breaker, as for a circuit, of all its tunnels together. Pure.

closed     it is asked. After so many failures in a row, whichever tunnels they were for: open
open       it is not asked, until a time that is further away with each failure; then: half-open
half-open  it is asked once. An answer closes it, a failure opens it again
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from ..api.reasons import Reason

THRESHOLD = 5
FIRST_WAIT = timedelta(seconds=15)
LONGEST_WAIT = timedelta(minutes=2)
"""A device that comes back is found within this; a thousand that do not cost eight calls a second."""

LOST_AFTER = timedelta(minutes=10)
"""An attempt that has not ended by then never will: no call takes nearly as long."""

FAULTS = frozenset({Reason.DEVICE_OFFLINE, Reason.DEVICE_SILENT, Reason.DEVICE_FAILED})
"""What says something against the device; IoT Hub's own trouble does not."""

ANSWERS = frozenset({Reason.DEVICE_REFUSED})
"""What a device that works may say."""


class State(StrEnum):
    """What a breaker is."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """One device's, with the fault that was seen last."""

    failures: int = 0
    until: datetime | None = None
    probed_at: datetime | None = None
    reason: Reason = Reason.DEVICE_OFFLINE
    message: str = ""

    def state(self, now: datetime) -> State:
        """Return what it is now."""
        if self.until is None:
            return State.CLOSED
        return State.OPEN if now < self.until else State.HALF_OPEN

    def may_ask(self, now: datetime) -> bool:
        """Tell whether the device may be asked now."""
        match self.state(now):
            case State.CLOSED:
                return True
            case State.OPEN:
                return False
            case State.HALF_OPEN:
                return not self.is_probed(now)

    def is_probed(self, now: datetime) -> bool:
        """Tell whether the one attempt that a half-open breaker lets through is under way."""
        return self.probed_at is not None and now < self.probed_at + LOST_AFTER

    def asked(self, now: datetime) -> "Breaker":
        """Return the breaker with an attempt under way."""
        return replace(self, probed_at=now) if self.state(now) is State.HALF_OPEN else self

    def failed(self, now: datetime, reason: Reason, message: str, *, is_probe: bool) -> "Breaker":
        """Return the breaker after the device's failure.

        One that was asked before the breaker opened says nothing new: many are asked side by side.
        """
        if self.until is not None and not is_probe:
            return self
        failures = self.failures + 1
        until = None if failures < THRESHOLD else now + wait(failures)
        return Breaker(failures, until, None, reason, message)

    def unsettled(self) -> "Breaker":
        """Return the breaker after an attempt that said nothing of the device."""
        return replace(self, probed_at=None)


def wait(failures: int) -> timedelta:
    """Return how long a breaker stays open after this many failures in a row: 15, 30, 60, 120 s."""
    doublings: int = 2 ** min(failures - THRESHOLD, 8)
    return min(FIRST_WAIT * doublings, LONGEST_WAIT)
