"""How many calls a service of Azure gets of us: one budget for all tunnels, spent in the order of asking."""

import asyncio
from collections.abc import Awaitable, Callable

from ..api.reasons import Reason
from ..errors import Retryable

LONGEST_WAIT_SECONDS = 60.0
"""A call that would have to wait longer is given back to the queue, which frees its worker."""


class Budget:
    """A token bucket: `burst` calls at once, then `rate` a second.

    The defaults of callers are Azure's: ARM refills 10 reads or writes a second up to 200 for each
    subscription and principal ("Understand how Azure Resource Manager throttles requests").
    `monotonic` and `sleep` are the loop's, or a test's.
    """

    def __init__(
        self,
        name: str,
        *,
        rate: float,
        burst: int,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._name = name
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._sleep = sleep
        self._tokens = float(burst)
        self._at = monotonic()

    async def take(self, calls: int = 1) -> None:
        """Wait until this many calls may be made. Raises Retryable when that would take too long."""
        now = self._monotonic()
        refilled = self._tokens + (now - self._at) * self._rate
        self._tokens, self._at = min(float(self._burst), refilled), now
        # Below zero the tokens are promised: whoever asks next waits behind whoever asked before.
        wait = max(0.0, (calls - self._tokens) / self._rate)
        if wait > LONGEST_WAIT_SECONDS:
            raise Retryable(
                Reason.THROTTLED,
                f"The calls to {self._name} that may be made are taken by other tunnels; waiting.",
            )
        self._tokens -= calls
        if wait > 0:
            await self._sleep(wait)
