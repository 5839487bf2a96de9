"""How long to wait before the next attempt."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REDIAL = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds; the ladder of relay-dotnet's `HybridConnectionListener.cs`. The last step repeats."""

JITTER = 0.25


@dataclass(slots=True)
class Ladder:
    """Counts failures in a row. Jitter spreads many devices that lost the same relay at once."""

    steps: Sequence[float] = REDIAL
    chance: Callable[[], float] = random.random
    failures: int = 0

    def next_delay(self) -> float:
        """Note one more failure and return the seconds to wait after it."""
        step = self.steps[min(self.failures, len(self.steps) - 1)]
        self.failures += 1
        return step * (1 + JITTER * (2 * self.chance() - 1))

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0
