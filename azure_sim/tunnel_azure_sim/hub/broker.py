"""The MQTT listener of all hubs: a client's user name tells which one it means."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from weakref import WeakSet

from OpenSSL import SSL

from ..config import Timings, hub_fqdn
from ..delayed import Delayed
from ..doors import Door, Doors
from ..faults import Faults, Plane
from ..journal import Journal
from .authorization import HubAuthorizer
from .device_tls import DeviceTls
from .errors import Code
from .session import DeviceSession


class Broker:
    """Lets devices in."""

    def __init__(
        self,
        authorizers: Sequence[HubAuthorizer],
        *,
        timings: Timings,
        journal: Journal,
        faults: Faults,
    ) -> None:
        self._authorizers = tuple(authorizers)
        self._timings = timings
        self._journal = journal
        self._faults = faults
        self._sessions: set[DeviceSession] = set()

    @asynccontextmanager
    async def serving(
        self, address: str, port: int, context: SSL.Context, doors: Doors
    ) -> AsyncIterator[int]:
        """Listen; yields the port that was bound. At the end all devices are disconnected."""
        connections: WeakSet[DeviceTls] = WeakSet()

        def make() -> DeviceTls:
            made = DeviceTls(
                context,
                self.make_session,
                handshake=self._timings.request_head,
                close=self._timings.close,
            )
            connections.add(made)
            return made

        async def listen(number: int) -> asyncio.AbstractServer:
            return await asyncio.get_running_loop().create_server(make, address, number)

        def cut() -> None:
            for session in tuple(self._sessions):
                session.abort()
            for connection in tuple(connections):
                connection.abort()

        async with doors.serving(Door(Plane.MQTT, listen, cut), port) as bound:
            try:
                yield bound
            finally:
                await self._end_all()
                cut()

    async def _end_all(self) -> None:
        for session in tuple(self._sessions):
            session.end(Code.DeviceConnectionClosedRemotely)
        try:
            await self._journal.until(
                lambda: not self._sessions, timeout=min(1.0, self._timings.close)
            )
        except TimeoutError:
            for session in tuple(self._sessions):
                session.abort()

    def make_session(self) -> asyncio.Protocol:
        """Return the protocol of a new connection, whichever way it came."""
        session = DeviceSession(
            self._find,
            timings=self._timings,
            journal=self._journal,
            made=self._sessions.add,
            gone=self._forget,
        )
        return Delayed(session, self._faults, Plane.MQTT)

    def _forget(self, session: DeviceSession) -> None:
        self._sessions.discard(session)
        self._journal.changed()

    def _find(self, host: str) -> HubAuthorizer | None:
        """Return the hub of a name; an address that all share names a hub only when there is one."""
        for authorizer in self._authorizers:
            if host == hub_fqdn(authorizer.hub.name):
                return authorizer
        if len(self._authorizers) == 1 and host in self._authorizers[0].hub.host_names:
            return self._authorizers[0]
        return None
