"""How many calls a service of Azure gets of us: one budget for all tunnels, spent in the order of asking."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from ..api.reasons import Reason
from ..errors import Postponed

PATIENCE_SECONDS = 3.0
"""Who would have to wait longer is given back to the queue, which frees its worker, and keeps its place."""

LONG_SECONDS = 10.0

ROUNDING = 1e-6
"""What a sum of fractions may be short of; who waits exactly as long as it has to is then served."""

SHORTEST_SECONDS = 0.001
"""What a clock may not be able to tell from nothing, so that it would be waited for again and again."""

HELD_SECONDS = 300.0
"""For so long a budget is held at most, whatever the service has asked for."""

KEPT_SECONDS = 60.0
"""For so long calls are kept for somebody whose turn has come, or who has taken more than it has used yet."""


@dataclass(slots=True)
class _Kept:
    calls: int
    until: float


class Budget:
    """A token bucket with a queue before it: `burst` calls at once, then `rate` a second.

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
        self._waiting: dict[str, int] = {}
        self._kept: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def take(self, who: str, calls: int = 1, *, ahead: int = 0) -> None:
        """Wait until this many calls may be made. Raises Postponed when that takes long.

        Whoever is postponed keeps its place, and asks again. `ahead` are further calls that will follow
        at once: they are taken together, so that what has begun does not have to wait in the middle.
        """
        while not self._take_now(who, calls, ahead):
            wait, before = self._wait(who)
            if wait > PATIENCE_SECONDS:
                raise Postponed(
                    Reason.OPENING,
                    f"Waiting for {self._name}'s budget, {before} ahead, about {wait:.0f} s.",
                    retry_after=timedelta(seconds=next_word(wait)),
                )
            try:
                await self._sleep(max(wait, SHORTEST_SECONDS))
            except BaseException:
                self._waiting.pop(who, None)
                raise

    def hold(self, wait: timedelta) -> None:
        """Let nobody make a call for a while: the service has asked one of us to wait, and means all of us.

        What is left of the burst is not there either, by its count. Who has calls kept still has them then.
        """
        now = self._monotonic()
        until = now + min(wait.total_seconds(), HELD_SECONDS)
        for kept in self._kept.values():
            kept.until += max(0.0, until - max(now, self._at))
        if until > self._at:
            # Tokens come in again from then on.
            self._at, self._tokens = until, 0.0

    def _take_now(self, who: str, calls: int, ahead: int) -> bool:
        """Take calls that are kept, or else get in line and see whose turn it is."""
        now = self._monotonic()
        if now < self._at:
            if who not in self._kept:
                self._waiting.setdefault(who, calls + ahead)
            return False
        self._tokens += (now - self._at) * self._rate
        self._at = now
        self._serve(now)
        if not self._use(who, calls, now):
            # Before the line is looked at again, so that nobody is served out of turn.
            self._waiting.setdefault(who, calls + ahead)
            self._serve(now)
            return self._use(who, calls, now)
        return True

    def _serve(self, now: float) -> None:
        """Keep calls for those whose turn has come, and take back what nobody came for."""
        for who in [who for who, kept in self._kept.items() if kept.until <= now]:
            self._tokens += self._kept.pop(who).calls
        while self._waiting:
            who, calls = next(iter(self._waiting.items()))
            if calls > self._tokens + ROUNDING:
                break
            del self._waiting[who]
            self._tokens -= calls
            known = self._kept.get(who)
            self._kept[who] = _Kept(calls + (known.calls if known else 0), now + KEPT_SECONDS)
        # Only now: what has come in since the last look may be more, and belongs to those in line.
        self._tokens = min(float(self._burst), self._tokens)

    def _use(self, who: str, calls: int, now: float) -> bool:
        kept = self._kept.get(who)
        if kept is None or kept.calls < calls:
            return False
        kept.calls -= calls
        kept.until = now + KEPT_SECONDS
        if not kept.calls:
            del self._kept[who]
        return True

    def _wait(self, who: str) -> tuple[float, int]:
        """Return how long somebody in line still waits, and how many are before it."""
        held = max(0.0, self._at - self._monotonic())
        if who in self._kept:
            return held, 0
        needed, before = 0, 0
        for other, calls in self._waiting.items():
            needed += calls
            if other == who:
                break
            before += 1
        return held + max(0.0, (needed - self._tokens) / self._rate), before


def next_word(wait: float) -> float:
    """Return when somebody in line asks again, which renews what is said of it.

    Halving keeps what is said true within a factor of two, at a handful of words for the longest wait.
    """
    return wait if wait < LONG_SECONDS else wait / 2
