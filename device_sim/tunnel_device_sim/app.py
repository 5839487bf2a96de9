"""The composition root of the device."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import structlog

from tunnel_forwarder.transport import tls_context

from .config import DeviceConfig
from .hub import Hub
from .methods import Methods
from .sample import SampleDevice
from .services import WebPage, echoing
from .telemetry import Sensor
from .tunnels import Tunnels

log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def run(config: DeviceConfig, stop: asyncio.Event) -> None:
    """Be the device until `stop` is set.

    Raises OSError when a port is taken, and ProtocolError for a connection string that can not be used.
    """
    tls = tls_context(config.authorities)
    sensor = Sensor(random.Random())  # noqa: S311 - weather, not keys
    tunnels = Tunnels(config.allow, tls, max_tunnels=config.max_tunnels)
    sample = (
        SampleDevice(config.sample, config.device_id, tunnels, tls)
        if config.sample is not None
        else None
    )
    methods = Methods(config.open_method, config.close_method, tunnels, sample)
    hub = Hub(config.connection_string, methods.answer, authorities=config.authorities)
    page = WebPage(config.device_id, sensor, tunnels=lambda: len(tunnels))
    async with contextlib.AsyncExitStack() as stack:
        web_port = await stack.enter_async_context(page.serving(config.web_port))
        echo_port = await stack.enter_async_context(echoing(config.echo_port))
        await stack.enter_async_context(tunnels.running())
        log.info("device.started", device=config.device_id, web=web_port, echo=echo_port)
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(_serve_hub(config, hub, sensor), name="hub")]
            if sample is not None:
                work.append(tasks.create_task(sample.renew_tokens(), name="renew-tokens"))
            await stop.wait()
            for task in work:
                task.cancel()
    log.info("device.stopped", device=config.device_id)


async def _serve_hub(config: DeviceConfig, hub: Hub, sensor: Sensor) -> None:
    async with hub.connected():
        with _marked_ready(config.ready_file):
            while True:
                reading = sensor.read()
                await hub.send_telemetry(reading.body(), reading.properties())
                await asyncio.sleep(config.telemetry_interval)


@contextlib.contextmanager
def _marked_ready(file: Path | None) -> Iterator[None]:
    if file is None:
        yield
        return
    file.write_text("connected and subscribed\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
