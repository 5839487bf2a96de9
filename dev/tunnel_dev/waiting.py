"""Wait for a condition, never for a length of time."""

import time
from collections.abc import Callable

from .errors import DevError

POLL_S = 0.05


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return as soon as the condition holds; past the deadline, say what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise DevError(f"Gave up after {seconds:g} s: {what}.")
        time.sleep(POLL_S)
