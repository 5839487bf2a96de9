"""Devices on azure-iot-device that agree to everything, and open no listener: that is not measured here."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tunnel_device_sim.hub import Hub
from tunnel_device_sim.tunnels import Answer
from tunnel_forwarder.protocol.method import CloseRequest, ForwardAnswer, OpenAnswer, OpenRequest
from tunnel_forwarder.protocol.secret import Secret

AGENT = "bench/1"


class Devices:
    """Which tunnels they have agreed to."""

    def __init__(self) -> None:
        self.are_asked = True
        """False: nobody asks them, and every tunnel counts as agreed to."""

        self._open: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    @contextlib.asynccontextmanager
    async def connected(self, endpoints: dict[str, Any]) -> AsyncIterator[None]:
        """Keep all devices of the hub connected, each by a connection of its own."""
        authorities = Path(endpoints["caFile"]).read_text()
        async with contextlib.AsyncExitStack() as stack:
            for device in endpoints["hubs"][0]["devices"]:
                where = Secret(device["connectionString"])
                hub = Hub(where, self.answer, authorities=authorities)
                await stack.enter_async_context(hub.connected())
            yield

    async def until_open(self, tunnel: str) -> None:
        """Return when a device has agreed to this tunnel."""
        if self.are_asked:
            await self._open[tunnel].wait()

    async def answer(self, method: str, payload: object) -> Answer:
        """Agree."""
        if method == "CreateConnection":
            request = OpenRequest.from_payload(payload)
            self._open[request.tunnel].set()
            forwards = tuple(ForwardAnswer(f.port_name, allowed=True) for f in request.forwards)
            answer = OpenAnswer(agent=AGENT, listening=True, forwards=forwards)
            return Answer(200, answer.to_payload())
        self._open.pop(CloseRequest.from_payload(payload).tunnel, None)
        return Answer(200)
