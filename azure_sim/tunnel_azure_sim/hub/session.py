"""One device's MQTT connection, from CONNECT to the end."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import structlog

from ..config import Timings
from ..journal import Journal
from . import mqtt_codec as mqtt
from .authorization import HubAuthorizer
from .device_tls import PEER_CERTIFICATES
from .errors import Code, HubError
from .methods import take_answer
from .model import Identity
from .topics import (
    DESIRED_FILTER,
    MAX_QOS,
    METHODS_FILTER,
    TWIN_ANSWERS_FILTER,
    TwinTopic,
    desired_topic,
    is_allowed_filter,
    is_service_topic,
    is_telemetry,
    method_topic,
    parse_login,
    parse_method_answer,
    parse_twin_request,
    twin_answer_topic,
)

ASSUMED_UNAUTHORIZED_CODE = 5
"""CONNACK's "not authorized" for every CONNECT that is refused for its credentials or its device."""

ASSUMED_REFUSED_FILTER = 0x80
"""SUBACK's "failure" for a topic filter that a device may not have."""

ASSUMED_MAX_UNSENT = 256 * 1024
"""More than this is not kept for a client that does not read, nor while MQTT is silent: it is lost, as QoS 0 may be."""

ASSUMED_KEEPS_SUBSCRIPTIONS = True
"""Without CleanSession they outlive the connection (MQTT 3.1.1, section 3.1.2.4)."""

_ACCEPTED = 0
_BAD_LEVEL, _LEVEL = 1, 4
_BAD_CLIENT_ID = 2
_GRACE = 1.5
"""Times the keep-alive; then a silent client is gone (MQTT 3.1.1, section 3.1.2.10)."""

_log = structlog.get_logger(__name__)


class DeviceSession(asyncio.Protocol):
    """Reads one client's packets. It is the Session of an identity once CONNECT is accepted."""

    def __init__(
        self,
        find: Callable[[str], HubAuthorizer | None],
        *,
        timings: Timings,
        journal: Journal,
        made: Callable[["DeviceSession"], None],
        gone: Callable[["DeviceSession"], None],
    ) -> None:
        self._find = find
        self._timings = timings
        self._journal = journal
        self._made, self._gone = made, gone
        self._decoder = mqtt.Decoder()
        self._transport: asyncio.Transport | None = None
        self._authorizer: HubAuthorizer | None = None
        self._identity: Identity | None = None
        self._filters: set[str] = set()
        self._silence: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._cut: asyncio.TimerHandle | None = None
        self._keep_alive = 0
        self._last_heard = 0.0
        self._why = Code.DeviceConnectionClosedRemotely

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for CONNECT, but not for long."""
        # uvloop's transports do not derive from asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._made(self)
        self._silence = asyncio.get_running_loop().call_later(
            self._timings.request_head, self._close, "no CONNECT"
        )

    def data_received(self, data: bytes) -> None:
        """Take whatever the client sent; what breaks the protocol ends the connection."""
        self._last_heard = asyncio.get_running_loop().time()
        try:
            for packet in self._decoder.feed(data):
                if self._is_closing():
                    return
                self._take(packet)
        except mqtt.MqttError as error:
            self._close(str(error))

    def pause_writing(self) -> None:
        """A client that does not read its answers is not read from, so that they stay bounded."""
        self._open.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._open.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The device is offline."""
        for timer in (self._silence, self._expiry, self._cut):
            if timer is not None:
                timer.cancel()
        self._detach()
        self._gone(self)
        self._transport = None  # Which leads back here, so that nothing would be freed at once.

    def send_method(self, request_id: str, name: str, payload: bytes) -> None:
        """Pass a direct method call on, with QoS 0."""
        self._tell(method_topic(name, request_id), payload)

    def send_desired(self, patch: Mapping[str, Any], version: int) -> None:
        """Tell of changed desired properties, if the device has subscribed to them."""
        if DESIRED_FILTER in self._filters:
            body = json.dumps({**patch, "$version": version}).encode()
            self._tell(desired_topic(version), body)

    def end(self, code: Code) -> None:
        """Close from the hub's side."""
        self._why = code
        self._close(code.name)

    def abort(self) -> None:
        """Cut the connection."""
        self._open.abort()

    @property
    def _open(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("The connection is not made yet.")
        return self._transport

    def _tell(self, topic: str, payload: bytes) -> None:
        """Send what the client did not ask for, which no pause of its reading bounds (MQTT 3.1.1, section 4.3.1)."""
        if self._open.get_write_buffer_size() <= ASSUMED_MAX_UNSENT:
            self._open.write(mqtt.publish(topic, payload))

    def _is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _close(self, reason: str) -> None:
        """End the connection: what was written is sent for a while, then it is cut."""
        if self._is_closing():
            return
        name = None if self._identity is None else self._identity.id
        _log.info("hub.device_closed", device=name, reason=reason)
        self._detach()
        self._open.close()
        self._cut = asyncio.get_running_loop().call_later(self._timings.close, self._open.abort)

    def _detach(self) -> None:
        if self._identity is not None and self._authorizer is not None:
            self._identity.detach(self, self._why, self._journal.now())
            self._identity = None
            self._journal.changed()

    def _take(self, packet: mqtt.Packet) -> None:
        if isinstance(packet, mqtt.Connect):
            self._connect(packet)
            return
        if self._identity is None:
            raise mqtt.MqttError("The first packet is not CONNECT.")  # section 3.1
        match packet:
            case mqtt.Publish():
                self._publish(self._identity, packet)
            case mqtt.Subscribe():
                self._subscribe(self._identity, packet)
            case mqtt.Unsubscribe():
                self._unsubscribe(self._identity, packet)
            case mqtt.PingReq():
                self._open.write(mqtt.PINGRESP)
            case mqtt.PubAck():
                pass  # The hub sends with QoS 0 alone: nothing waits for this.
            case mqtt.Disconnect():
                self._close("DISCONNECT")

    def _connect(self, packet: mqtt.Connect) -> None:
        if self._identity is not None:
            raise mqtt.MqttError("CONNECT came twice.")  # section 3.1
        if packet.level != _LEVEL:
            self._refuse(_BAD_LEVEL, "not MQTT 3.1.1")
            return
        login = parse_login(packet.user_name or "")
        authorizer = None if login is None else self._find(login.host)
        if login is None or authorizer is None:
            self._refuse(ASSUMED_UNAUTHORIZED_CODE, "unknown hub or malformed user name")
            return
        if packet.client_id != login.identity:
            self._refuse(_BAD_CLIENT_ID, "the client id is not that of the user name")
            return
        try:
            identity = authorizer.hub.enabled(login.identity)
            certificates = self._open.get_extra_info(PEER_CERTIFICATES, ())
            expires_at = authorizer.check_device(identity, packet.password, certificates)
        except HubError as error:
            self._refuse(ASSUMED_UNAUTHORIZED_CODE, error.sentence)
            return
        self._accept(authorizer, identity, packet, expires_at)

    def _accept(
        self,
        authorizer: HubAuthorizer,
        identity: Identity,
        packet: mqtt.Connect,
        expires_at: float | None,
    ) -> None:
        self._authorizer, self._identity = authorizer, identity
        identity.attach(self, self._journal.now())
        if packet.clean_session:
            identity.filters.clear()
        else:
            self._filters = identity.filters
        self._open.write(mqtt.connack(_ACCEPTED, session_present=bool(self._filters)))
        if METHODS_FILTER in self._filters:
            identity.ready.set()
        if expires_at is not None:
            remaining = max(0.0, expires_at - self._journal.now().timestamp())
            self._expiry = asyncio.get_running_loop().call_later(
                remaining, self._close, "the token has expired"
            )
        self._keep_alive = packet.keep_alive
        self._watch_silence()
        _log.info("hub.device_connected", device=identity.id)
        self._journal.changed()

    def _refuse(self, code: int, reason: str) -> None:
        _log.info("hub.device_refused", reason=reason)
        self._open.write(mqtt.connack(code))
        self._close(reason)

    def _watch_silence(self) -> None:
        """Close when nothing was heard for one and a half keep-alives; 0 turns this off."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._keep_alive == 0:
            return
        loop = asyncio.get_running_loop()
        remaining = self._last_heard + _GRACE * self._keep_alive - loop.time()
        if remaining <= 0:
            self._close("the client is silent")
        else:
            self._silence = loop.call_later(remaining, self._watch_silence)

    def _publish(self, identity: Identity, packet: mqtt.Publish) -> None:
        if packet.qos > MAX_QOS:
            raise mqtt.MqttError("IoT Hub does not take QoS 2.")
        answer = parse_method_answer(packet.topic)
        if answer is not None:
            take_answer(identity, answer.request_id, answer.status, packet.payload)
        elif (request := parse_twin_request(packet.topic)) is not None:
            self._answer_twin(identity, request, packet.payload)
        elif is_telemetry(packet.topic, identity.id):
            identity.telemetry_messages += 1
            self._count(len(packet.payload))
        elif is_service_topic(packet.topic):
            _log.info("hub.topic_not_simulated", device=identity.id)
        else:
            raise mqtt.MqttError("The topic is not one of IoT Hub's.")
        identity.last_activity_at = self._journal.now()
        if packet.qos:
            self._open.write(mqtt.puback(packet.packet_id))
        self._journal.changed()

    def _answer_twin(self, identity: Identity, request: TwinTopic, payload: bytes) -> None:
        """Show a device its twin, or take what it reports. It hears of it if it has subscribed."""
        if self._authorizer is None:
            return
        hub, twin, version, body = self._authorizer.hub, identity.twin, None, b""
        try:
            hub.meter.check_tier()
            if request.reports:
                version, status = twin.report(payload, self._journal.now()), 204
                hub.save()
            else:
                shown = {"desired": twin.desired.to_device(), "reported": twin.reported.to_device()}
                status, body = 200, json.dumps(shown).encode()
        except HubError as error:
            status = error.code.status
        if TWIN_ANSWERS_FILTER in self._filters:
            topic = twin_answer_topic(status, request.request_id, version)
            self._open.write(mqtt.publish(topic, body))

    def _count(self, size: int) -> None:
        if self._authorizer is not None:
            self._authorizer.hub.meter.count(size, least=1)

    def _subscribe(self, identity: Identity, packet: mqtt.Subscribe) -> None:
        granted = tuple(
            min(qos, MAX_QOS) if is_allowed_filter(name, identity.id) else ASSUMED_REFUSED_FILTER
            for name, qos in packet.filters
        )
        self._filters.update(
            name
            for (name, _), qos in zip(packet.filters, granted, strict=True)
            if qos != ASSUMED_REFUSED_FILTER
        )
        self._save()
        self._open.write(mqtt.suback(packet.packet_id, granted))
        if any(name == METHODS_FILTER for name, _ in packet.filters):
            identity.ready.set()
        self._journal.changed()

    def _unsubscribe(self, identity: Identity, packet: mqtt.Unsubscribe) -> None:
        self._filters.difference_update(packet.filters)
        if METHODS_FILTER in packet.filters:
            identity.ready.clear()
        self._save()
        self._open.write(mqtt.unsuback(packet.packet_id))
        self._journal.changed()

    def _save(self) -> None:
        if self._authorizer is not None:
            self._authorizer.hub.save()
