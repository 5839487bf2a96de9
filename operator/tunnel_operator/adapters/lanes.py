"""How many calls that may take long are under way at once, in lanes: what is slow stands in nobody's way but its own."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..api.reasons import Reason
from ..errors import Postponed
from .budget import next_word

KEPT_SECONDS = 10.0
"""For so long beyond its time the place in the line is kept of somebody who does not come back."""

LONGEST_SECONDS = 120.0
"""Who stands in line asks again after this at the latest."""


@dataclass(slots=True)
class Slot:
    """What somebody in a lane holds. It is free again when its call has really ended.

    A thread goes on after nobody waits for it any more.
    """

    call: asyncio.Future[Any] | None = None


class Lane:
    """A number of slots, and a line before them that is kept while those in it are at other things.

    `monotonic` is the loop's, or a test's.
    """

    def __init__(self, slots: int, monotonic: Callable[[], float]) -> None:
        self._slots = slots
        self._free = slots
        self._monotonic = monotonic
        self._waiting: dict[str, float] = {}
        self._usual_seconds = 1.0

    def __len__(self) -> int:
        return len(self._waiting)

    @contextmanager
    def slot(self, who: str, reason: Reason, words: str) -> Iterator[Slot]:
        """Give a slot. Raises Postponed at once when none is free, so that the worker is."""
        self._enter(who, reason, words)
        slot, since = Slot(), self._monotonic()
        try:
            yield slot
        finally:
            if slot.call is None:
                self._free += 1
            elif slot.call.done():
                self._leave(since)
            else:
                slot.call.add_done_callback(lambda _: self._leave(since))

    def _enter(self, who: str, reason: Reason, words: str) -> None:
        """Take a slot, or stay in line until it is one's turn."""
        now = self._monotonic()
        for gone in [other for other, until in self._waiting.items() if until < now]:
            del self._waiting[gone]
        self._waiting.setdefault(who, now)
        before = list(self._waiting).index(who)
        if before < self._free:
            del self._waiting[who]
            self._free -= 1
            return
        wait = max(1.0, (before - self._free + 1) * self._usual_seconds / self._slots)
        again = min(next_word(wait), LONGEST_SECONDS)
        self._waiting[who] = now + again + KEPT_SECONDS
        raise Postponed(
            reason,
            f"{words}, {before} ahead, about {wait:.0f} s.",
            retry_after=timedelta(seconds=again),
        )

    def _leave(self, since: float) -> None:
        self._free += 1
        self._usual_seconds += (self._monotonic() - since - self._usual_seconds) / 8


class Lanes:
    """A third each of `at_once` calls: for devices that did not answer when last asked, for closings, for all others."""

    def __init__(self, at_once: int, monotonic: Callable[[], float]) -> None:
        each = max(1, at_once // 3)
        self.opening = Lane(each, monotonic)
        self.failing = Lane(each, monotonic)
        self.closing = Lane(each, monotonic)

    def __len__(self) -> int:
        return len(self.opening) + len(self.failing) + len(self.closing)
