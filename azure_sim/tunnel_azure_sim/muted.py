"""A transport that sends nothing, and does not end, while its plane is silent."""

import asyncio
from collections.abc import Callable
from typing import Any

from .faults import Faults, Plane


class Muted(asyncio.Transport):
    """Keeps what is written during a silence, and the end, until `go_on`; a writer bounds it by the size."""

    def __init__(self, lower: asyncio.Transport, faults: Faults, plane: Plane) -> None:
        super().__init__()
        self._lower = lower
        self._faults, self._plane = faults, plane
        self._unsent = bytearray()
        self._end: Callable[[], None] | None = None
        self._waits = False

    def go_on(self) -> None:
        """Send what was kept, and end if that was wanted."""
        self._waits = False
        if self._unsent:
            self._lower.write(bytes(self._unsent))
            self._unsent.clear()
        if self._end is not None:
            self._end()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        return self._lower.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, after what is kept."""
        if self._end is not None:
            return
        if self._keeps():
            self._unsent += data
        else:
            self._lower.write(data)

    def close(self) -> None:
        """End the connection when everything is sent."""
        if not self._keeps():
            self._lower.close()
        elif self._end is None:
            self._end = self._lower.close

    def abort(self) -> None:
        """Cut the connection."""
        self._unsent.clear()
        if self._keeps():
            self._end = self._lower.abort
        else:
            self._lower.abort()

    def is_closing(self) -> bool:
        """Whether the connection is being ended, or is to be."""
        return self._end is not None or self._lower.is_closing()

    def pause_reading(self) -> None:
        """Take no more from the peer."""
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._lower.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return len(self._unsent) + self._lower.get_write_buffer_size()

    def _keeps(self) -> bool:
        self._waits = self._waits or self._faults.hold(self._plane, self.go_on)
        return self._waits
