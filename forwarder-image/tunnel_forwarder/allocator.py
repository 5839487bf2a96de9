"""Gives memory back to the system after streams have ended.

A stream's buffers are large (TLS takes two of 257 KiB), and glibc keeps what was freed between pieces that
are in use: without this a forwarder stays as large as it has ever been, and grows with each odd mixture.
"""

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass, field

SECONDS = 20.0
"""After a stream's end, so that those that end together are one piece of work of a few milliseconds."""


def trim() -> None:
    """Give back every free page, where the C library can (malloc_trim(3), glibc).

    Closed connections are collected first: they are cycles, which an idle process would keep for hours.
    """
    gc.collect()
    import ctypes  # noqa: PLC0415 - half a megabyte that a forwarder without streams does without

    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)


@dataclass(slots=True, eq=False)
class Tidier:
    """Trims once, some time after `soon` was first called; then it may be called again."""

    act: Callable[[], None] = trim
    seconds: float = SECONDS
    _timer: asyncio.TimerHandle | None = field(default=None)

    def soon(self) -> None:
        """Note that a stream has ended."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.seconds, self._now)

    def _now(self) -> None:
        self._timer = None
        self.act()
