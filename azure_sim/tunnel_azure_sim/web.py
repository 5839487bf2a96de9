"""What the three HTTP planes share: serving an aiohttp handler over TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# A client that is slow to finish its request does not hold up a stop for longer.
_SHUTDOWN_SECONDS = 0.5


@asynccontextmanager
async def serving(
    handler: Handler, *, address: str, port: int, context: ssl.SSLContext, max_body: int
) -> AsyncIterator[int]:
    """Serve all paths and methods by one handler; yields the port that was bound."""
    app = web.Application(client_max_size=max_body)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, port, ssl_context=context).start()
        bound: int = runner.addresses[0][1]
        yield bound
    finally:
        connections = () if runner.server is None else runner.server.connections
        transports = [connection.transport for connection in connections]
        await runner.cleanup()
        await _cut(transports)


async def _cut(transports: Iterable[asyncio.Transport | None]) -> None:
    """End what is left: a client that keeps an idle connection does not answer the end of TLS."""
    for transport in transports:
        if transport is not None:
            transport.abort()
    # The sockets are closed in the loop's next round.
    await asyncio.sleep(0)


def authority(address: str, port: int) -> str:
    """Return `host:port` as it stands in a URL."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
