"""Direct methods of IoT Hub, over azure-iot-hub.

The SDK blocks, so calls run in threads, a bounded number of them. Each thread has clients of its own, one
for each hub: the SDK does not say that one may be shared by threads. To make one, and a TLS connection for
it, costs more than the call itself. A connection string that was rotated makes a new one.
"""

import asyncio
import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Protocol

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, CloudToDeviceMethodResult
from msrest.exceptions import ClientException, HttpOperationError

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.method import CloseRequest, OpenAnswer

from ..api.reasons import Reason
from ..api.tunnel import Device
from ..api.tunnel_class import IoTHub, TunnelClassSpec
from ..core.actions import Ask
from ..errors import Retryable, Terminal, TunnelError
from .azure_errors import classify_hub, classify_no_token, hub_error_code
from .budget import Budget
from .calls import CallObserver, counted

MAX_CALLS = 16
SLACK_SECONDS = 10
"""How much longer than the device the hub itself may take."""


class SecretReader(Protocol):
    """Reads one value of a Secret."""

    async def secret_value(self, namespace: str, name: str, key: str) -> bytes | None:
        """Return the value in base64; None when it is not there."""


class HubDevices:
    """Opens and closes devices. Provides runtime.ports.Devices."""

    def __init__(
        self,
        credential: TokenCredential,
        secrets: SecretReader,
        namespace: str,
        budget: Budget,
        observe: CallObserver,
    ) -> None:
        self._budget = budget
        self._credential = credential
        self._secrets = secrets
        self._namespace = namespace
        self._observe = observe
        self._clients = threading.local()
        self._threads = ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="iothub")

    def close_threads(self) -> None:
        """Wait for no call that is under way; each has a deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def open(self, klass: TunnelClassSpec, device: Device, ask: Ask) -> OpenAnswer | None:
        """Ask a device to listen; without a request it is told nothing more.

        None: it agreed, and does not speak our version of the answer.
        """
        hub = klass.iot_hub
        await self._budget.take(ask.tunnel)
        request = await ask.make()
        payload = None if request is None else request.to_payload()
        method = _method(hub, hub.open_method, payload)
        result = await self._invoke("open", hub, device, method)
        answer = _read_answer(result.payload)
        if result.status != HTTPStatus.OK:
            raise _refusal(device, int(result.status), answer)
        if answer is not None and not answer.listening:
            raise Retryable(Reason.DEVICE_FAILED, f"Device {str(device)!r} could not listen.")
        return answer

    async def close(
        self, klass: TunnelClassSpec, device: Device, request: CloseRequest | None
    ) -> None:
        """Ask a device to listen no longer; it having stopped already counts as done."""
        hub = klass.iot_hub
        payload = None if request is None else request.to_payload()
        method = _method(hub, hub.close_method, payload)
        await self._budget.take(f"close {device}" if request is None else f"close {request.uid}")
        result = await self._invoke("close", hub, device, method)
        if result.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND):
            raise _refusal(device, int(result.status), None)

    async def _invoke(
        self, verb: str, hub: IoTHub, device: Device, method: CloudToDeviceMethod
    ) -> CloudToDeviceMethodResult:
        connection_string = await self._connection_string(hub)

        def call() -> CloudToDeviceMethodResult:
            client = self._client(hub, connection_string)
            client.protocol.config.connection.timeout = _deadline(hub)
            if device.module is not None:
                return client.invoke_device_module_method(device.id, device.module, method)
            return client.invoke_device_method(device.id, method)

        loop = asyncio.get_running_loop()
        try:
            with counted(self._observe, "iothub", verb):
                async with asyncio.timeout(_deadline(hub) + SLACK_SECONDS):
                    return await loop.run_in_executor(self._threads, call)
        except (ClientException, AzureError, TimeoutError) as error:
            raise _classify(error, device, hub) from error

    def _client(self, hub: IoTHub, connection_string: str | None) -> IoTHubRegistryManager:
        """Return this thread's client of a hub. Making one asks for a token, which blocks."""
        clients: dict[str, tuple[str | None, IoTHubRegistryManager]]
        clients = self._clients.__dict__.setdefault("by_hub", {})
        known = clients.get(hub.host_name)
        if known is not None and known[0] == connection_string:
            return known[1]
        client = (
            IoTHubRegistryManager.from_token_credential(hub.host_name, self._credential)
            if connection_string is None
            else IoTHubRegistryManager.from_connection_string(connection_string)
        )
        # A repeated POST would run the device's method twice.
        client.protocol.config.retry_policy.retries = 0
        # Else each call makes a connection of its own (msrest/service_client.py).
        client.protocol.config.keep_alive = True
        clients[hub.host_name] = (connection_string, client)
        return client

    async def _connection_string(self, hub: IoTHub) -> str | None:
        """Return what the class names, as it is now; None where Entra ID is used."""
        reference = hub.connection_string_secret_ref
        if reference is None:
            return None
        value = await self._secrets.secret_value(self._namespace, reference.name, reference.key)
        if value is None:
            raise Terminal(
                Reason.NOT_FOUND,
                f"Secret {reference.name!r} with the key {reference.key!r} is not in the operator's "
                f"namespace {self._namespace!r}.",
            )
        return base64.b64decode(value).decode().strip()


def _method(hub: IoTHub, name: str, payload: dict[str, Any] | None) -> CloudToDeviceMethod:
    return CloudToDeviceMethod(
        method_name=name,
        payload=payload,
        response_timeout_in_seconds=hub.response_timeout_seconds,
        connect_timeout_in_seconds=hub.connect_timeout_seconds,
    )


def _deadline(hub: IoTHub) -> int:
    return hub.response_timeout_seconds + hub.connect_timeout_seconds + SLACK_SECONDS


def _read_answer(payload: object) -> OpenAnswer | None:
    try:
        return OpenAnswer.from_payload(payload)
    except ProtocolError:
        # Not an error: a device made for the Azure sample answers in its own way.
        return None


def _refusal(device: Device, status: int, answer: OpenAnswer | None) -> TunnelError:
    if answer is not None and status == HTTPStatus.FORBIDDEN:
        refused = ", ".join(f.port_name for f in answer.forwards if not f.allowed)
        return Terminal(
            Reason.DEVICE_REFUSED,
            f"Device {str(device)!r} does not allow: {refused}. Its own list of targets decides.",
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Retryable(Reason.DEVICE_FAILED, f"Device {str(device)!r} answered {status}.")
    return Terminal(Reason.DEVICE_REFUSED, f"Device {str(device)!r} answered {status}.")


def _classify(error: Exception, device: Device, hub: IoTHub) -> TunnelError:
    match error:
        case HttpOperationError(response=response) if response is not None:
            code = hub_error_code(response.status_code, response.headers, response.text)
            text = response.headers.get("Retry-After", "")
            return classify_hub(
                code,
                str(device),
                waited_seconds=hub.response_timeout_seconds,
                retry_after=timedelta(seconds=int(text)) if text.isdecimal() else None,
            )
        case ClientAuthenticationError(status_code=status):
            return classify_no_token(status)
        case _:
            return Retryable(
                Reason.UNAVAILABLE, f"IoT Hub can not be reached: {type(error).__name__}."
            )
