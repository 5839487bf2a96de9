"""The HTTP endpoints for Kubernetes and Prometheus."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

Check = Callable[[], str | None]
"""Returns what is wrong, or None."""

log = structlog.get_logger(__name__)


@asynccontextmanager
async def serve_health(
    port: int, *, live: Check, ready: Check, metrics: Callable[[], bytes], content_type: str
) -> AsyncIterator[int]:
    """Serve /livez, /readyz and /metrics while inside; yields the port, which matters when 0 was given."""

    def answer(trouble: str | None) -> web.Response:
        return web.Response(status=200 if trouble is None else 503, text=(trouble or "ok") + "\n")

    async def livez(_: web.Request) -> web.Response:
        trouble = live()
        if trouble is not None:
            # The kubelet's events hold the answer's status only, and the process that knows more is ended.
            log.error("operator.not_alive", reason=trouble)
        return answer(trouble)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready())

    async def metricsz(_: web.Request) -> web.Response:
        # A thousand Tunnels take a fifth of a second, in which the event loop shall not stand still.
        body = await asyncio.to_thread(metrics)
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metricsz)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        listener = _listen(port)
        await web.SockSite(runner, listener).start()
        yield listener.getsockname()[1]
    finally:
        await runner.cleanup()


def _listen(port: int) -> socket.socket:
    """Return one socket for both families, so that a port of the system's choice is one port."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
