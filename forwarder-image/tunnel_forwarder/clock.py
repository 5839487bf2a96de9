"""Time as an argument, so that a test can bring its own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """The calendar for deadlines, which tokens share, and a steady clock for durations."""

    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic

    def date_of(self, moment: float) -> datetime:
        """Return the calendar time of a moment of the steady clock."""
        return self.now() - timedelta(seconds=self.monotonic() - moment)
