"""Direct methods: from a service's call to the device and back (documentation "direct methods")."""

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from ..faults import Faults
from ..journal import Journal, MethodCall, without_tokens
from .errors import Code, HubError
from .model import ASSUMED_MAX_ACTIVE_METHODS, Hub, Identity, MethodAnswer

MAX_PAYLOAD = 128 * 1024
"""Bytes, each way."""

ASSUMED_PAYLOAD_OF_BAD_ANSWER = None
"""Stands for a device's answer that is no JSON, or is too large."""

_DEFAULT_RESPONSE_SECONDS = 30
_RESPONSE_RANGE = (5, 300)
_CONNECT_RANGE = (0, 300)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MethodRequest:
    """What a service asks of a device."""

    name: str
    payload: bytes = field(repr=False)
    """JSON."""

    response_seconds: int
    connect_seconds: int

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "MethodRequest":
        """Read the JSON body of a call. Raises HubError (400004 and 413001)."""
        name = body.get("methodName")
        if not isinstance(name, str) or not name:
            raise HubError(Code.ArgumentInvalid, "'methodName' is missing.")
        payload = json.dumps(body.get("payload")).encode()
        if len(payload) > MAX_PAYLOAD:
            raise HubError(Code.MessageTooLarge, f"The payload has more than {MAX_PAYLOAD} bytes.")
        return cls(
            name=name,
            payload=payload,
            response_seconds=_seconds(
                body, "responseTimeoutInSeconds", _DEFAULT_RESPONSE_SECONDS, _RESPONSE_RANGE
            ),
            connect_seconds=_seconds(body, "connectTimeoutInSeconds", 0, _CONNECT_RANGE),
        )


@dataclass(frozen=True, slots=True)
class Methods:
    """Calls the devices of one hub. `second` is how long a second of a time-out lasts."""

    hub: Hub
    journal: Journal
    second: float
    faults: Faults = field(default_factory=Faults)

    async def invoke(self, identity_id: str, request: MethodRequest) -> MethodAnswer:
        """Return the device's answer. Raises HubError when there is none."""
        device, _, module = identity_id.partition("/")
        call = MethodCall(
            hub=self.hub.name,
            device=device,
            module=module or None,
            method=request.name,
            payload=without_tokens(json.loads(request.payload)),
            at=self.journal.now(),
        )
        self.journal.record_method(call)
        try:
            answer = await self._invoke(identity_id, request)
        except HubError as error:
            self.journal.replace_method(call, replace(call, error=error.code.value))
            _log.info("hub.method_failed", device=identity_id, error=error.code.value)
            raise
        self.journal.replace_method(call, replace(call, status=answer.status))
        _log.info("hub.method", device=identity_id, method=request.name, status=answer.status)
        return answer

    async def _invoke(self, identity_id: str, request: MethodRequest) -> MethodAnswer:
        self.hub.meter.charge_method(len(request.payload))
        identity = self.hub.enabled(identity_id)
        await self._wait_online(identity, request.connect_seconds)
        if len(identity.calls) >= ASSUMED_MAX_ACTIVE_METHODS:
            raise HubError(
                Code.DeviceMaximumInflightMethodExceeded, "The device has too many open calls."
            )
        session = identity.session
        if session is None:
            raise _not_online(request.connect_seconds)
        request_id = secrets.token_hex(4)
        answered: asyncio.Future[MethodAnswer] = asyncio.get_running_loop().create_future()
        identity.calls[request_id] = answered
        try:
            session.send_method(request_id, request.name, request.payload)
            async with asyncio.timeout(request.response_seconds * self.second):
                answer = await answered
        except TimeoutError:
            raise HubError(
                Code.GatewayTimeout, "Timed out waiting for the response from device."
            ) from None
        finally:
            identity.calls.pop(request_id, None)
        if self.faults.loses_answer(identity_id, request.name):
            raise HubError(Code.GatewayTimeout, "Timed out waiting for the response from device.")
        self.hub.meter.count(answer.size)
        return answer

    async def _wait_online(self, identity: Identity, seconds: int) -> None:
        if identity.ready.is_set():
            return
        try:
            async with asyncio.timeout(seconds * self.second):
                await identity.ready.wait()
        except TimeoutError:
            raise _not_online(seconds) from None


def take_answer(identity: Identity, request_id: str, status: int, payload: bytes) -> None:
    """Give a device's answer to the call that waits for it; one that nobody waits for is dropped."""
    call = identity.calls.get(request_id)
    if call is None or call.done():
        return
    try:
        too_large = len(payload) > MAX_PAYLOAD
        value = ASSUMED_PAYLOAD_OF_BAD_ANSWER if too_large else json.loads(payload)
    except (ValueError, RecursionError):
        value = ASSUMED_PAYLOAD_OF_BAD_ANSWER
    call.set_result(MethodAnswer(status, value, len(payload)))


def _not_online(seconds: int) -> HubError:
    minutes, rest = divmod(seconds, 60)
    return HubError(
        Code.DeviceNotOnline,
        "Timed out waiting for device to connect.",
        {"timeout": f"00:{minutes:02}:{rest:02}"},
    )


def _seconds(body: Mapping[str, Any], name: str, default: int, allowed: tuple[int, int]) -> int:
    value = body.get(name)
    if value is None:
        return default
    low, high = allowed
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise HubError(Code.ArgumentInvalid, f"'{name}' must be within [{low}; {high}].")
    return value
