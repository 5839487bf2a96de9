"""What the device offers on its own ports, and what tunnels lead to: a web page and a TCP echo."""

import asyncio
import contextlib
import html
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from aiohttp import web

from tunnel_forwarder.clock import Clock

from .telemetry import Sensor

HOST = "localhost"
"""Reached from elsewhere by a tunnel only."""

CHUNK = 64 * 1024

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>{device}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 36rem; color: #1b2733 }}
h1 {{ font-size: 1.4rem; border-bottom: 3px solid #0b7a75; padding-bottom: .5rem }}
dl {{ display: grid; grid-template-columns: 12rem 1fr; gap: .4rem 1rem }}
dt {{ color: #5b6b7a }} dd {{ margin: 0; font-variant-numeric: tabular-nums }}
.alert {{ color: #b3261e; font-weight: 600 }}
</style>
<h1>{device}</h1>
<dl>
<dt>Room temperature</dt><dd class="{mark}">{temperature:.1f} °C</dd>
<dt>Relative humidity</dt><dd>{humidity:.1f} %</dd>
<dt>In service for</dt><dd>{uptime}</dd>
<dt>Requests served</dt><dd>{requests}</dd>
<dt>Open tunnels</dt><dd>{tunnels}</dd>
</dl>
"""


@dataclass(slots=True)
class WebPage:
    """The device's page for a technician, and the same as JSON."""

    device_id: str
    sensor: Sensor
    tunnels: Callable[[], int]
    clock: Clock = field(default_factory=Clock)
    requests: int = 0
    _started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self.clock.monotonic()

    @contextlib.asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[int]:
        """Serve while the block runs; the block gets the port."""
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/api/status", self._status)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _page(self, _: web.Request) -> web.Response:
        self.requests += 1
        reading = self.sensor.last
        text = PAGE.format(
            device=html.escape(self.device_id),
            temperature=reading.temperature,
            humidity=reading.humidity,
            mark="alert" if reading.is_alert else "",
            uptime=_duration(self.clock.monotonic() - self._started),
            requests=self.requests,
            tunnels=self.tunnels(),
        )
        return web.Response(text=text, content_type="text/html")

    async def _status(self, _: web.Request) -> web.Response:
        self.requests += 1
        return web.json_response(
            {
                "device": self.device_id,
                **self.sensor.last.body(),
                "uptimeSeconds": round(self.clock.monotonic() - self._started),
                "requests": self.requests,
                "tunnels": self.tunnels(),
            }
        )


@contextlib.asynccontextmanager
async def echoing(port: int) -> AsyncIterator[int]:
    """Send back all that comes, until the peer has ended; the block gets the port."""
    server = await asyncio.start_server(_echo, HOST, port, limit=CHUNK)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # A peer that resets the connection has had enough: nobody is left to be told.
    with contextlib.suppress(ConnectionError), contextlib.closing(writer):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


def _duration(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02} min {second:02} s"
