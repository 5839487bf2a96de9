"""The MQTT listener of all hubs: a client's user name tells which one it means."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from weakref import WeakSet

from OpenSSL import SSL

from ..config import Timings, hub_fqdn
from ..journal import Journal
from .authorization import HubAuthorizer
from .device_tls import DeviceTls
from .errors import Code
from .session import DeviceSession


class Broker:
    """Lets devices in."""

    def __init__(
        self, authorizers: Sequence[HubAuthorizer], *, timings: Timings, journal: Journal
    ) -> None:
        self._authorizers = tuple(authorizers)
        self._timings = timings
        self._journal = journal
        self._sessions: set[DeviceSession] = set()

    @asynccontextmanager
    async def serving(self, *, address: str, port: int, context: SSL.Context) -> AsyncIterator[int]:
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

        server = await asyncio.get_running_loop().create_server(make, address, port)
        try:
            bound: int = server.sockets[0].getsockname()[1]
            yield bound
        finally:
            server.close()
            await self._end_all()
            for connection in tuple(connections):
                connection.abort()

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

    def make_session(self) -> DeviceSession:
        """Return the protocol of a new connection, whichever way it came."""
        return DeviceSession(
            self._find,
            timings=self._timings,
            journal=self._journal,
            made=self._sessions.add,
            gone=self._forget,
        )

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
