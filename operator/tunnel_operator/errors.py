"""What can go wrong between the operator and the world.

    TunnelError            a sentence for people, and a reason from the closed list
    ├── Retryable          passes by itself: offline, throttled, unavailable, outcome unknown
    │   ├── ConflictError  another one by now, or changed meanwhile
    │   └── Postponed      was not tried at all: something else comes first, and `retry_after` says for how long
    └── Terminal           needs a person: refused, forbidden, not there

Adapters raise these and nothing else; an exception of a library never gets past them. The sentences hold
no keys and no tokens.
"""

from datetime import timedelta

from .api.reasons import Reason


class TunnelError(Exception):
    """An attempt that failed. `retry_after` is what the other side asked for, if it did."""

    def __init__(
        self, reason: Reason, message: str, *, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Retryable(TunnelError):  # noqa: N818 - says what it is, as the codebase reads it
    """Trying again later may succeed with nothing changed."""


class ConflictError(Retryable):
    """The object is another one, or was changed meanwhile."""


class Postponed(Retryable):
    """Nothing was tried, so it is no failed attempt; it may be tried after `retry_after`."""


class Terminal(TunnelError):  # noqa: N818 - as above
    """Trying again is of no use until somebody changes something."""
