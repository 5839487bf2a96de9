"""The HTTP endpoints of a local forwarder, for the kubelet, Prometheus and people."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from . import tcp


class Subject(Protocol):
    """Whose health it is."""

    @property
    def ready(self) -> bool:
        """Whether the path to the device is proven."""

    @property
    def why(self) -> str:
        """Why it is ready or not, in a sentence."""


@contextlib.asynccontextmanager
async def serving(
    subject: Subject,
    *,
    port: int,
    registry: CollectorRegistry,
    status: Callable[[], Mapping[str, object]],
) -> AsyncIterator[int]:
    """Answer while the block runs, on all interfaces; the block gets the port.

    /livez says that the event loop turns, /readyz that a client would reach the device.
    """

    async def livez(_: web.Request) -> web.Response:
        return web.Response(text="The forwarder runs.\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text=f"{subject.why}\n", status=200 if subject.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def show_status(_: web.Request) -> web.Response:
        return web.json_response(status())

    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/status", show_status)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, tcp.listen(port)).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
