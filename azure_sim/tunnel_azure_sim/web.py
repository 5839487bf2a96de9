"""What the HTTP planes share: serving an aiohttp handler over TLS, late or not at all when told so."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from .doors import Door, Doors
from .faults import Faults, Plane

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# A client that is slow to finish its request does not hold up a stop for longer.
_SHUTDOWN_SECONDS = 0.5
_READING = ("GET", "HEAD", "OPTIONS")


def with_faults(handler: Handler, plane: Plane, faults: Faults) -> Handler:
    """Return a handler that takes a plane's latency into account, and answers 503 while it is out."""

    async def handle(request: web.Request) -> web.StreamResponse:
        await faults.wait(plane)
        if faults.turns_away(plane):
            return web.Response(status=503, text="The service is unavailable.")
        return await handler(request)

    return handle


def with_silence(handler: Handler, plane: Plane, faults: Faults) -> Handler:
    """Return a handler that begins no sooner than its plane is not silent."""

    async def handle(request: web.Request) -> web.StreamResponse:
        await faults.wait_answering(plane)
        return await handler(request)

    return handle


def with_saving(handler: Handler, save: Callable[[], None]) -> Handler:
    """Return a handler after which what has changed is written down, before the client is told."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = await handler(request)
        if request.method not in _READING and not request.path.endswith("/methods"):
            save()
        return answer

    return handle


class HttpPlanes:
    """Serves the HTTP planes of one simulation, which have address and certificate in common."""

    def __init__(self, address: str, context: ssl.SSLContext, doors: Doors) -> None:
        self._address = address
        self._context = context
        self._doors = doors

    @asynccontextmanager
    async def serving(
        self, plane: Plane, handler: Handler, *, port: int, max_body: int
    ) -> AsyncIterator[int]:
        """Serve all paths and methods by one handler; yields the port that was bound."""
        app = web.Application(client_max_size=max_body)
        faults = self._doors.faults
        late = with_silence(with_faults(handler, plane, faults), plane, faults)
        app.router.add_route("*", "/{path:.*}", late)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        loop = asyncio.get_running_loop()

        def transports() -> list[asyncio.Transport | None]:
            connections = () if runner.server is None else runner.server.connections
            return [connection.transport for connection in connections]

        async def listen(number: int) -> asyncio.AbstractServer:
            if runner.server is None:
                raise RuntimeError("The plane has ended.")
            return await loop.create_server(runner.server, self._address, number, ssl=self._context)

        door = Door(plane, listen, lambda: _abort(transports()))
        try:
            async with self._doors.serving(door, port) as bound:
                yield bound
        finally:
            left = transports()
            await runner.cleanup()
            # A client that keeps an idle connection does not answer the end of TLS.
            _abort(left)
            # The sockets are closed in the loop's next round.
            await asyncio.sleep(0)


def _abort(transports: Iterable[asyncio.Transport | None]) -> None:
    for transport in transports:
        if transport is not None:
            transport.abort()


def authority(address: str, port: int) -> str:
    """Return `host:port` as it stands in a URL."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
