"""How long to wait after a failure."""

from datetime import timedelta

LONGEST = timedelta(seconds=30)
TERMINAL = timedelta(minutes=5)
"""After a failure that waiting will not mend: someone may have mended it without our being told."""


def delay(attempts: int, jitter: float, longest: timedelta = LONGEST) -> timedelta:
    """Return the wait after a number of failed attempts in a row: 1, 2, 4 … 30 s, less up to a half.

    `jitter` is from 0 up to 1; it keeps many tunnels that failed together from coming back together.
    """
    full = min(2.0 ** min(attempts - 1, 16), longest.total_seconds())
    return timedelta(seconds=full * (1 - jitter / 2))
