"""Direct methods of IoT Hub, over azure-iot-hub.

The SDK blocks, so calls run in threads, a bounded number of them. Each thread has clients of its own, one
for each hub: the SDK does not say that one may be shared by threads. To make one, and a TLS connection for
it, costs more than the call itself. A connection string that was rotated makes a new one.

A device that does not answer keeps its thread, and the worker that waits for it, for as long as the class
allows. So there are lanes, and who has a slot in one waits for no thread.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from http import HTTPStatus
from typing import Protocol

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
from .azure_errors import CODES_OF_ONE_DEVICE, classify_hub, classify_no_token, hub_error_code
from .calls import Terms, counted
from .hub_client import CONNECT_SECONDS, read_connection_string
from .lanes import Lanes, Slot
from .threads import Threads
from .unreached import unreached

SLACK_SECONDS = 10
"""How much longer than the device the hub itself may take."""

MOST_RESPONSE_SECONDS = 90
MOST_CONNECT_SECONDS = 60
"""What a class may ask for, by its CRD, so that no call outlasts what a pass may take. One from a file, or from before
that was so, gets no more either."""

CLOSE_SECONDS = 10
"""How long a device may take to close at most. It is cut off in any case; one that is offline is not waited for."""

_IN_LINE = "Waiting for a call to IoT Hub to be free"

Connect = Callable[[str, str | None], IoTHubRegistryManager]
"""Returns a client for a hub's host, with a connection string or without. It may block."""


class SecretReader(Protocol):
    """Reads one value of a Secret."""

    async def secret_value(self, namespace: str, name: str, key: str) -> bytes | None:
        """Return the value in base64; None when it is not there."""


class HubDevices:
    """Opens and closes devices, as many together as the lanes have slots. Provides runtime.ports.Devices."""

    def __init__(
        self,
        connect: Connect,
        secrets: SecretReader,
        namespace: str,
        make_terms: Callable[[], Terms],
        lanes: Lanes,
    ) -> None:
        self._make_terms = make_terms
        self._known_terms: dict[str, Terms] = {}
        self._connect = connect
        self._secrets = secrets
        self._namespace = namespace
        self._clients = threading.local()
        self._lanes = lanes
        self._threads = Threads("iothub")

    def close_threads(self) -> None:
        """Wait for no call that is under way; each has a deadline."""
        self._threads.close()

    async def open(self, klass: TunnelClassSpec, device: Device, ask: Ask) -> OpenAnswer | None:
        """Ask a device to listen; without a request it is told nothing more.

        None: it agreed, and does not speak our version of the answer.
        """
        hub = klass.iot_hub
        with self._slot_for(device, ask) as slot:
            await self._terms(hub).budget.take(ask.tunnel)
            request = await ask.make()
            method = CloudToDeviceMethod(
                method_name=hub.open_method,
                payload=None if request is None else request.to_payload(),
                response_timeout_in_seconds=min(
                    hub.response_timeout_seconds, MOST_RESPONSE_SECONDS
                ),
                connect_timeout_in_seconds=_connect_seconds(hub, ask),
            )
            result = await self._invoke("open", slot, hub, device, method)
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
        method = CloudToDeviceMethod(
            method_name=hub.close_method,
            payload=None if request is None else request.to_payload(),
            response_timeout_in_seconds=min(hub.response_timeout_seconds, CLOSE_SECONDS),
            connect_timeout_in_seconds=0,
        )
        who = f"close {device}" if request is None else f"close {request.uid}"
        with self._lanes.closing.slot(who, Reason.OPENING, _IN_LINE) as slot:
            await self._terms(hub).budget.take(who)
            result = await self._invoke("close", slot, hub, device, method)
        if result.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND):
            raise _refusal(device, int(result.status), None)

    def waiting(self) -> int:
        """Return how many calls wait for their turn."""
        # A copy: metrics are read in another thread.
        budgets = [terms.budget for terms in list(self._known_terms.values())]
        return sum(map(len, budgets)) + len(self._lanes)

    def _terms(self, hub: IoTHub) -> Terms:
        """Return a hub's own terms: its limits are its own, and so is its wish to be spared."""
        if hub.host_name not in self._known_terms:
            self._known_terms[hub.host_name] = self._make_terms()
        return self._known_terms[hub.host_name]

    def _slot_for(self, device: Device, ask: Ask) -> AbstractContextManager[Slot]:
        if ask.fault is None:
            return self._lanes.opening.slot(ask.tunnel, Reason.OPENING, _IN_LINE)
        words = (
            f"Device {str(device)!r} did not listen when it was last asked. It is asked again when it is "
            "its turn among such devices"
        )
        return self._lanes.failing.slot(ask.tunnel, ask.fault, words)

    async def _invoke(
        self, verb: str, slot: Slot, hub: IoTHub, device: Device, method: CloudToDeviceMethod
    ) -> CloudToDeviceMethodResult:
        connection_string = await self._connection_string(hub)
        seconds, terms = _seconds(method), self._terms(hub)

        def call() -> CloudToDeviceMethodResult:
            client = self._client(hub, connection_string)
            client.protocol.config.connection.timeout = (CONNECT_SECONDS, seconds)
            # Not before: a client, or the key that is in the request, may have been waited for.
            terms.may_act()
            if device.module is not None:
                return client.invoke_device_module_method(device.id, device.module, method)
            return client.invoke_device_method(device.id, method)

        try:
            with counted(terms.observe, "iothub", verb):
                async with asyncio.timeout(seconds + SLACK_SECONDS):
                    slot.call = self._threads.run(call)
                    # The slot is free when the thread is, which ends by itself.
                    return await asyncio.shield(slot.call)
        except (ClientException, AzureError, OSError) as error:
            waited = int(method.response_timeout_in_seconds)
            meaning, code = _classify(error, device, waited)
            if code not in CODES_OF_ONE_DEVICE:
                terms.heed(meaning)
            raise meaning from error

    def _client(self, hub: IoTHub, connection_string: str | None) -> IoTHubRegistryManager:
        """Return this thread's client of a hub. Making one asks for a token, which blocks."""
        clients: dict[str, tuple[str | None, IoTHubRegistryManager]]
        clients = self._clients.__dict__.setdefault("by_hub", {})
        known = clients.get(hub.host_name)
        if known is not None and known[0] == connection_string:
            return known[1]
        client = self._connect(hub.host_name, connection_string)
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
        try:
            return read_connection_string(value)
        except ValueError:
            # Not even as a cause: it might quote what is in the Secret.
            raise Terminal(
                Reason.UNAUTHORIZED,
                f"The Secret {reference.name!r}, key {reference.key!r}, in the operator's namespace "
                f"{self._namespace!r} holds no IoT Hub connection string: copy that of the policy 'service' "
                "there as it is, HostName=…;SharedAccessKeyName=…;SharedAccessKey=….",
            ) from None


def _connect_seconds(hub: IoTHub, ask: Ask) -> int:
    """Return how long the hub is to wait for a device that is offline.

    Not at all for one that nothing is known against: were half of a fleet offline, all others would wait
    for them. Asked again, it is waited for in the lane of those.
    """
    return 0 if ask.fault is None else min(hub.connect_timeout_seconds, MOST_CONNECT_SECONDS)


def _seconds(method: CloudToDeviceMethod) -> int:
    """Return how long the hub may take to answer."""
    device = int(method.response_timeout_in_seconds) + int(method.connect_timeout_in_seconds)
    return device + SLACK_SECONDS


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


def _classify(error: Exception, device: Device, waited_seconds: int) -> tuple[TunnelError, int]:
    """Return what an error means, and the hub's own code; 0 when it did not answer."""
    match error:
        case HttpOperationError(response=response) if response is not None:
            code = hub_error_code(response.status_code, response.headers, response.text)
            text = response.headers.get("Retry-After", "")
            wait = timedelta(seconds=int(text)) if text.isdecimal() else None
            name = str(device)
            return classify_hub(code, name, waited_seconds=waited_seconds, retry_after=wait), code
        case ClientAuthenticationError(status_code=status):
            return classify_no_token(status), 0
        case _:
            return unreached(error, "IoT Hub"), 0
