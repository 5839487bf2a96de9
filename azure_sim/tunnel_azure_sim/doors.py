"""The planes' listening ports, which an outage shuts and opens again at the same number."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from .faults import Faults, OutageMode, Plane

Listen = Callable[[int], Awaitable[asyncio.AbstractServer]]
"""Begins to listen on a port; 0 lets the system choose."""


class Door:
    """One listening port. While it is shut, whoever dials is refused by the system."""

    def __init__(self, plane: Plane, listen: Listen, cut: Callable[[], None]) -> None:
        self.plane = plane
        self._listen = listen
        self._cut = cut
        self._server: asyncio.AbstractServer | None = None
        self._port = 0

    async def open(self, port: int | None = None) -> int:
        """Listen, on the port of before when none is said; open already counts as open."""
        if self._server is None:
            self._server = await self._listen(self._port if port is None else port)
            self._port = bound_port(self._server)
        return self._port

    def shut(self) -> None:
        """Listen no more and cut the connections that there are."""
        if self._server is not None:
            self.close()
            self._cut()

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            self._server = None


@dataclass(slots=True)
class Doors:
    """All doors of a simulation."""

    faults: Faults
    _open: list[Door] = field(default_factory=list)

    @asynccontextmanager
    async def serving(self, door: Door, port: int) -> AsyncIterator[int]:
        """Open a door; yields the port that was bound."""
        bound = await door.open(port)
        self._open.append(door)
        try:
            yield bound
        finally:
            self._open.remove(door)
            door.close()

    async def obey(self) -> None:
        """Shut and open the doors as the outages in force say."""
        for door in tuple(self._open):
            if refuses(self.faults, door.plane):
                door.shut()
            else:
                await door.open()


def refuses(faults: Faults, plane: Plane) -> bool:
    """Whether a plane's port is to refuse; MQTT has no answer that would say 503."""
    mode = faults.outage(plane)
    return mode is OutageMode.REFUSE or (mode is OutageMode.ANSWER_503 and plane is Plane.MQTT)


def bound_port(server: asyncio.AbstractServer) -> int:
    """Return the port that a server listens on."""
    port: int = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined] # all real ones have it
    return port
