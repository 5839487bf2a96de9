"""The HTTP endpoints for Kubernetes and Prometheus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Check = Callable[[], str | None]
"""Returns what is wrong, or None."""


@asynccontextmanager
async def serve_health(
    port: int, *, live: Check, ready: Check, metrics: Callable[[], bytes], content_type: str
) -> AsyncIterator[int]:
    """Serve /livez, /readyz and /metrics while inside; yields the port, which matters when 0 was given."""

    def answer(check: Check) -> web.Response:
        trouble = check()
        return web.Response(status=200 if trouble is None else 503, text=(trouble or "ok") + "\n")

    async def livez(_: web.Request) -> web.Response:
        return answer(live)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready)

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
        await web.TCPSite(runner, None, port).start()
        # With port 0 IPv4 and IPv6 get ports of their own; the shorter address is IPv4's.
        yield min(runner.addresses, key=len)[1]
    finally:
        await runner.cleanup()
