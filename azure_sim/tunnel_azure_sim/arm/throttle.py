"""ARM's own limits on requests: token buckets.

Documentation "Understand how Azure Resource Manager throttles requests", "Regional throttling and token
bucket algorithm": for each subscription, principal and type of operation. There is one principal here.
"""

import math
from dataclasses import dataclass, field

from ..config import Clock

RATE_LIMITS = {"reads": (250, 25), "deletes": (200, 10), "writes": (200, 10)}
"""Size of a bucket, and tokens that come back each second (same document)."""

ASSUMED_THROTTLED_CODE = "SubscriptionRequestsThrottled"
"""The code beside a 429; the document names status and headers alone."""

ASSUMED_POST_IS_WRITE = True
"""listKeys and regenerateKeys count as writes; the document does not speak of POST."""


def operation(verb: str) -> str:
    """Return the type of operation that a verb is."""
    known = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}
    if not ASSUMED_POST_IS_WRITE:
        known["POST"] = "reads"
    return known.get(verb, "writes")


@dataclass(slots=True)
class Throttle:
    """The buckets, full at first; a token is taken for each request."""

    clock: Clock
    _tokens: dict[str, float] = field(
        default_factory=lambda: {kind: float(size) for kind, (size, _) in RATE_LIMITS.items()}
    )
    _filled_at: float = 0.0

    def take(self, kind: str) -> int | None:
        """Take a token; returns None, or the whole seconds after which there is one again."""
        self._fill()
        if self._tokens[kind] >= 1:
            self._tokens[kind] -= 1
            return None
        return max(1, math.ceil((1 - self._tokens[kind]) / RATE_LIMITS[kind][1]))

    def remaining(self, kind: str) -> int:
        """Return how many tokens are left, for the header that tells."""
        return int(self._tokens[kind])

    def _fill(self) -> None:
        now = self.clock()
        passed = max(0.0, now - self._filled_at)
        self._filled_at = now
        for kind, (size, rate) in RATE_LIMITS.items():
            self._tokens[kind] = min(float(size), self._tokens[kind] + passed * rate)
