"""The device's connection to its IoT Hub, by azure-iot-device; no SDK type leaves this module.

The SDK dials again by itself (every 10 s) once it has been connected, and calls its handlers on threads
of its own.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient
from azure.iot.device.exceptions import ClientError

from tunnel_forwarder.backoff import Ladder
from tunnel_forwarder.protocol.secret import Secret

from .tunnels import Answer

SDK_SECONDS = 30.0
SHUTDOWN_SECONDS = 2.0
MAX_CALLS = 16
"""Calls under way at once. IoT Hub itself gives up on a call after its time limit."""

Handler = Callable[[str, object], Awaitable[Answer]]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Hub:
    """A hub that is connected and subscribed, for as long as `connected` runs."""

    def __init__(self, client: Any, handler: Handler, calls: asyncio.TaskGroup) -> None:
        self._client = client
        self._handler = handler
        self._calls = calls
        self._under_way = 0
        self._loop = asyncio.get_running_loop()

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(
        cls, connection_string: Secret, handler: Handler, *, authorities: str | None = None
    ) -> AsyncIterator["Hub"]:
        """Connect, however often it takes, and answer calls while the block runs."""
        client = IoTHubDeviceClient.create_from_connection_string(
            connection_string.reveal(),
            **({} if authorities is None else {"server_verification_cert": authorities}),
        )
        try:
            async with asyncio.TaskGroup() as calls:
                hub = cls(client, handler, calls)
                await hub._connect()
                yield hub
        finally:
            await _shut_down(client)

    @property
    def is_connected(self) -> bool:
        """Whether the SDK is connected now."""
        return bool(self._client.connected)

    async def send_telemetry(self, body: object, properties: dict[str, str]) -> None:
        """Send a message, or none while the hub is away, so that none pile up in the SDK."""
        if not self.is_connected:
            return
        message = Message(  # type: ignore[no-untyped-call]
            json.dumps(body), content_encoding="utf-8", content_type="application/json"
        )
        message.custom_properties.update(properties)
        try:
            async with asyncio.timeout(SDK_SECONDS):
                await self._client.send_message(message)
        except (ClientError, TimeoutError) as error:
            log.warning("telemetry.unsent", message=str(error))

    async def _connect(self) -> None:
        ladder = Ladder()
        while True:
            try:
                async with asyncio.timeout(SDK_SECONDS):
                    await self._client.connect()
                    # The setter subscribes, and blocks until the hub has acknowledged that.
                    await asyncio.to_thread(
                        setattr, self._client, "on_method_request_received", self._called
                    )
            except (ClientError, TimeoutError) as error:
                log.warning("hub.unreachable", message=str(error.__cause__ or error))
                await asyncio.sleep(ladder.next_delay())
            else:
                log.info("hub.connected")
                return

    def _called(self, request: Any) -> None:
        """Hand a call from the SDK's thread to ours."""
        self._loop.call_soon_threadsafe(self._begin, request)

    def _begin(self, request: Any) -> None:
        if self._under_way >= MAX_CALLS:
            log.warning("method.dropped", method=request.name)
            return
        self._under_way += 1
        task = self._calls.create_task(self._answer(request), name=f"method-{request.name}")
        task.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self._under_way -= 1

    async def _answer(self, request: Any) -> None:
        answer = await self._handler(request.name, request.payload)
        response = MethodResponse(
            request.request_id, answer.status, dict(answer.payload) if answer.payload else None
        )
        try:
            async with asyncio.timeout(SDK_SECONDS):
                await self._client.send_method_response(response)
        except (ClientError, TimeoutError) as error:
            log.warning("method.unanswered", method=request.name, message=str(error))


async def _shut_down(client: Any) -> None:
    try:
        async with asyncio.timeout(SHUTDOWN_SECONDS):
            await client.shutdown()
    except (ClientError, TimeoutError) as error:
        log.warning("hub.shutdown_incomplete", message=str(error))
