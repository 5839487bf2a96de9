"""A queue of keys: each at most once, none worked on twice at the same time, none forgotten."""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)


class Timer(Protocol):
    """A call to come."""

    def cancel(self) -> None:
        """Call it off."""

    def when(self) -> float:
        """Return when it will come, in the scheduler's time."""


class WorkQueue(Generic[K]):
    """Holds the keys to be worked on, as controller-runtime's does.

    `add` while a key is being worked on makes it due again right after `done`. Of several delays for one
    key the earliest wins. Its size is bounded by the number of keys. `call_later` is the loop's, or a test's.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], Timer]) -> None:
        self._call_later = call_later
        self._ready: deque[K] = deque()
        self._due: set[K] = set()
        self._active: set[K] = set()
        self._timers: dict[K, Timer] = {}
        self._wakeup = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._due)

    @property
    def active(self) -> int:
        """How many keys are being worked on."""
        return len(self._active)

    def add(self, key: K) -> None:
        """Make a key due now."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._due:
            return
        self._due.add(key)
        if key not in self._active:
            self._ready.append(key)
            self._wakeup.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Make a key due later, unless it is due sooner already."""
        if key in self._due:
            return
        timer = self._call_later(max(seconds, 0.0), lambda: self.add(key))
        earlier = self._timers.get(key)
        if earlier is not None and earlier.when() <= timer.when():
            timer.cancel()
            return
        if earlier is not None:
            earlier.cancel()
        self._timers[key] = timer

    async def get(self) -> K:
        """Wait for a due key and begin to work on it; `done` must follow."""
        while (key := self.get_nowait()) is None:
            self._wakeup.clear()
            await self._wakeup.wait()
        return key

    def get_nowait(self) -> K | None:
        """Begin to work on a due key, if there is one; `done` must follow."""
        if self._is_closed or not self._ready:
            return None
        key = self._ready.popleft()
        self._due.discard(key)
        self._active.add(key)
        self._idle.clear()
        return key

    def done(self, key: K) -> None:
        """End the work on a key."""
        self._active.discard(key)
        if key in self._due:
            self._ready.append(key)
            self._wakeup.set()
        if not self._active:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no key is being worked on."""
        await self._idle.wait()

    def close(self) -> None:
        """Hand out no more keys; what is being worked on goes on."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
