"""The device's connection to its IoT Hub, by azure-iot-device, of which only `hub_errors` knows besides.

The SDK calls its handlers on threads of its own. Its own dialling after a loss is turned off: it ends for good
when the hub refuses the device once, and says so to nobody (`common/pipeline/pipeline_stages_base.py`,
`transient_connect_errors`).
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import structlog
from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient

from tunnel_forwarder.backoff import REDIAL, Ladder
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.secret import Secret

from .config import parse_pairs
from .hub_errors import HubError, classify
from .tunnels import Answer

SDK_SECONDS = 30.0
CONNECT_SECONDS = 70.0
"""The SDK gives up by itself after 60 s; what is given up before may still come about."""

SHUTDOWN_SECONDS = 2.0
STABLE_SECONDS = 10.0
"""A connection that stood for so long was a success: two devices of one name throw each other out at once."""

MAX_CALLS = 16
"""Calls under way at once. IoT Hub itself gives up on a call after its time limit."""

Handler = Callable[[str, object], Awaitable[Answer]]

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Hub:
    """A hub that is connected and subscribed, and dialled again when it is lost, while `connected` runs.

    Raises ProtocolError for a connection string that can not be used.
    """

    def __init__(
        self,
        connection_string: Secret,
        handler: Handler,
        *,
        authorities: str | None = None,
        retry: Sequence[float] = REDIAL,
    ) -> None:
        self._host = _host(connection_string)
        self._client = _make_client(connection_string, authorities)
        self._handler = handler
        self._retry = retry
        self._calls = asyncio.TaskGroup()
        self._under_way = 0
        self._loop = asyncio.get_running_loop()
        self._ready, self._changed = asyncio.Event(), asyncio.Event()
        self._client.on_connection_state_change = self._state_changed

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connect, however often it takes, and answer calls while the block runs."""
        try:
            async with self._calls:
                keeping = self._calls.create_task(self._keep_connected(), name="keep-connected")
                try:
                    await self._ready.wait()
                    yield
                finally:
                    keeping.cancel()
        finally:
            await self._shut_down()

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
            await self._ask(self._client.send_message(message))
        except HubError as error:
            log.warning("telemetry.unsent", reason=error.trouble.value, message=str(error))

    async def _keep_connected(self) -> None:
        ladder = Ladder(self._retry)
        while True:
            try:
                await self._connect()
            except HubError as error:
                log.warning("hub.unreachable", reason=error.trouble.value, message=str(error))
            else:
                log.info("hub.connected")
                self._ready.set()
                connected = self._loop.time()
                await self._lost()
                log.info("hub.disconnected")  # As each time that the SDK renews its token.
                if self._loop.time() - connected >= STABLE_SECONDS:
                    ladder.reset()
            await asyncio.sleep(ladder.next_delay())

    async def _connect(self) -> None:
        await self._ask(self._client.connect(), CONNECT_SECONDS)
        # The setter subscribes, unless it has, and blocks until the hub has acknowledged that.
        subscribing = asyncio.to_thread(
            setattr, self._client, "on_method_request_received", self._called
        )
        await self._ask(subscribing)

    async def _lost(self) -> None:
        while self.is_connected:
            await self._changed.wait()
            self._changed.clear()

    async def _ask(self, call: Awaitable[object], seconds: float = SDK_SECONDS) -> None:
        """Wait for the SDK, but not for ever. Raises HubError."""
        try:
            async with asyncio.timeout(seconds):
                await call
        except Exception as error:
            raise classify(error, self._host) from error

    def _state_changed(self) -> None:
        """Take word from the SDK's thread."""
        self._loop.call_soon_threadsafe(self._changed.set)

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
            await self._ask(self._client.send_method_response(response))
        except HubError as error:
            log.warning(
                "method.unanswered",
                method=request.name,
                reason=error.trouble.value,
                message=str(error),
            )

    async def _shut_down(self) -> None:
        try:
            await self._ask(self._client.shutdown(), SHUTDOWN_SECONDS)
        except HubError as error:
            log.warning("hub.shutdown_incomplete", message=str(error))


def _host(connection_string: Secret) -> str:
    pairs = parse_pairs(connection_string.reveal())
    return pairs.get("GatewayHostName") or pairs.get("HostName", "the hub")


def _make_client(connection_string: Secret, authorities: str | None) -> Any:
    try:
        return IoTHubDeviceClient.create_from_connection_string(
            connection_string.reveal(),
            connection_retry=False,
            auto_connect=False,
            **({} if authorities is None else {"server_verification_cert": authorities}),
        )
    except ValueError as error:
        raise ProtocolError(f"The device's connection string can not be used: {error}.") from None
