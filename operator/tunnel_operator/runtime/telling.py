"""Telling people of a tunnel that comes and goes, without flooding them."""

from collections import Counter, deque
from datetime import datetime, timedelta

from ..api.reasons import Reason
from ..api.tunnel import Tunnel
from ..core.notices import Notice
from .ports import Clock, Events

MOST = 3
"""How often within `WITHIN` people are told the same of a tunnel.

Once would be too seldom: after a short break the last that one would read is that it is broken.
"""

WITHIN = timedelta(minutes=5)

_What = tuple[str, Reason]


class MeasuredEvents:
    """Passes Events on, but for what has been told often enough just now. Provides runtime.ports.Events.

    What it remembers is bounded by what it passes on within `WITHIN`.
    """

    def __init__(self, events: Events, clock: Clock) -> None:
        self._events = events
        self._clock = clock
        self._told: deque[tuple[datetime, _What]] = deque()
        self._counts: Counter[_What] = Counter()

    async def record(self, tunnel: Tunnel, notice: Notice) -> None:
        """Tell people, if they have not been told often enough."""
        now = self._clock()
        self._forget(now)
        what = (tunnel.metadata.uid, notice.reason)
        if self._counts[what] >= MOST:
            return
        self._told.append((now, what))
        self._counts[what] += 1
        await self._events.record(tunnel, notice)

    def _forget(self, now: datetime) -> None:
        while self._told and now >= self._told[0][0] + WITHIN:
            _, what = self._told.popleft()
            self._counts[what] -= 1
            if not self._counts[what]:
                del self._counts[what]
