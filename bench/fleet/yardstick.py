"""How fast the cores are while something is measured: rented ones are not always as fast.

The same short computation again and again, by its own processor time, which other load does not add to.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_SECONDS = 0.5
ADDITIONS = 50_000


class Yardstick:
    """What was measured, in processor time."""

    def __init__(self) -> None:
        self._took: list[float] = []

    @property
    def milliseconds(self) -> float:
        """How long the computation took on average: the more, the slower the cores were."""
        return round(1000 * sum(self._took) / max(1, len(self._took)), 3)

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Measure in a thread of its own for as long as this is entered."""
        ended = threading.Event()
        thread = threading.Thread(target=self._run, args=(ended,), name="yardstick")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(EVERY_SECONDS):
            began, total = time.thread_time(), 0
            for number in range(ADDITIONS):
                total += number
            self._took.append(time.thread_time() - began)
