"""All TCP connections of a namespace, so that they can be counted, and ended when it stops."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Connections:
    """The open connections; `changed` is called when one is gone."""

    limit: int
    changed: Callable[[], None]
    _open: set[asyncio.Transport] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, transport: asyncio.Transport) -> bool:
        """Count a new connection; False when that is one too many."""
        self._open.add(transport)
        return len(self._open) <= self.limit

    def discard(self, transport: asyncio.Transport) -> None:
        """Count a connection no more."""
        self._open.discard(transport)
        self.changed()

    def abort_all(self) -> None:
        """Cut every connection at once."""
        for transport in tuple(self._open):
            transport.abort()
