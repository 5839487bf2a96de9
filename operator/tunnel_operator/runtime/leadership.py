"""Who may act, when several operators run.

The right to act is a stretch of time that ends by itself: a process that was stopped for a while (SIGSTOP, a
paused machine) finds on waking that its time is over, before it does anything.
"""

from collections.abc import Callable
from dataclasses import dataclass


class NotLeadingError(Exception):
    """This process may not act any more; another may have taken over."""


@dataclass(slots=True)
class Leadership:
    """The right to act until a moment of the monotonic clock, in seconds. It begins with none."""

    monotonic: Callable[[], float]
    _until: float = float("-inf")

    def grant(self, until: float) -> None:
        """Allow acting until then."""
        self._until = until

    def revoke(self) -> None:
        """Allow no more."""
        self._until = float("-inf")

    def is_held(self) -> bool:
        """Tell whether this process may act now."""
        return self.monotonic() < self._until

    def require(self) -> None:
        """Raise NotLeadingError unless this process may act now."""
        if not self.is_held():
            raise NotLeadingError("The lease is not held.")
