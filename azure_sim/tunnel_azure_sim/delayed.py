"""A protocol in front of another one, for which everything takes longer when there is latency, or silence."""

import asyncio
from collections import deque
from typing import cast

from .faults import Faults, Plane
from .muted import Muted

_MAX_HELD = 256 * 1024


class Delayed(asyncio.Protocol):
    """Gives `inner` what comes in later, in the same order, and no more of it than is held here.

    While its plane is silent it gives it nothing, and sends nothing of it.
    """

    def __init__(self, inner: asyncio.Protocol, faults: Faults, plane: Plane) -> None:
        self._inner = inner
        self._faults, self._plane = faults, plane
        self._held: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waits_for_answers = False
        self._transport: Muted | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass on at once."""
        # uvloop's transports do not derive from asyncio's class.
        lower = cast("asyncio.Transport", transport)
        self._transport = Muted(lower, self._faults, self._plane)
        self._inner.connection_made(self._transport)

    def data_received(self, data: bytes) -> None:
        """Hold, if there is latency or silence, or something is held already."""
        delay = self._faults.delay(self._plane)
        if not delay and not self._held and not self._faults.is_silent(self._plane):
            self._inner.data_received(data)
            return
        now = asyncio.get_running_loop().time()
        due = max(now + delay, self._held[-1][0] if self._held else 0.0)
        self._held.append((due, data))
        self._size += len(data)
        if self._size > _MAX_HELD and self._transport is not None:
            self._transport.pause_reading()
        self._wait(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Drop what is held, and the transport, which leads back here."""
        self._held.clear()
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on at once."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on at once."""
        self._inner.resume_writing()

    def _wait(self, now: float) -> None:
        if self._timer is None and self._held and not self._waits_for_answers:
            delay = max(0.0, self._held[0][0] - now)
            self._timer = asyncio.get_running_loop().call_later(delay, self._release)

    def _release(self) -> None:
        self._timer = None
        self._waits_for_answers = self._faults.hold(self._plane, self._release)
        if self._waits_for_answers or not self._held:
            return
        _, data = self._held.popleft()
        was_full, self._size = self._size > _MAX_HELD, self._size - len(data)
        if was_full and self._size <= _MAX_HELD and self._transport is not None:
            self._transport.resume_reading()
        self._inner.data_received(data)
        self._wait(asyncio.get_running_loop().time())
