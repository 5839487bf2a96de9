"""For how long nothing is said of what is being done: most is done sooner, and each saying is a write."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

USUAL_SECONDS = 2.0
LONGEST_SECONDS = 30.0
CALLS = 15
"""About as many calls does a pass make, one after the other. Where these alone take longer than is waited,
each pass would say something meanwhile, and what is slow would be slower still."""


class Patience:
    """Longer where writing takes its time, by what it has lately taken. `monotonic` is in seconds."""

    def __init__(
        self,
        usual_seconds: float = USUAL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._usual = usual_seconds
        self._monotonic = monotonic
        self._a_write = 0.0

    def seconds(self) -> float:
        """Return how long to wait now before something is said."""
        return min(max(self._usual, CALLS * self._a_write), LONGEST_SECONDS)

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Take how long a write takes, also one that fails."""
        began = self._monotonic()
        try:
            yield
        finally:
            self._a_write += (self._monotonic() - began - self._a_write) / 4
