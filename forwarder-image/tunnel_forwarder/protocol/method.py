"""What the operator and a device say to each other in a direct method, version 1.

The operator sends an OpenRequest or a CloseRequest; the device answers an open with an OpenAnswer. A
device that was made for the Azure sample ignores the payload and answers what it likes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from .errors import ProtocolError, is_text
from .secret import Secret
from .urls import RelayEndpoint

T = TypeVar("T")

VERSION = 1
MAX_FORWARDS = 32
MAX_FEATURES = 16


@dataclass(frozen=True, slots=True)
class Forward:
    """One port name and the target that the device is asked to connect it to.

    The protocol is "tcp", "udp", or "unix": the host is then a path, and the port 0.
    """

    port_name: str
    host: str
    port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """Asks the device to listen on a hybrid connection until `expires_at`.

    `features` are what the other end speaks beyond version 1 (`mux.FEATURE`); who does not know one
    ignores it.
    """

    tunnel: str
    uid: str
    correlation_id: str
    endpoint: RelayEndpoint
    hybrid_connection: str
    listen_token: Secret
    forwards: tuple[Forward, ...]
    expires_at: datetime
    features: tuple[str, ...] = ()

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON object; it holds the token, so it is for the device alone."""
        return {
            "version": VERSION,
            "tunnel": self.tunnel,
            "uid": self.uid,
            "correlationId": self.correlation_id,
            "relay": {
                "endpoint": str(self.endpoint),
                "hybridConnection": self.hybrid_connection,
                "listenToken": self.listen_token.reveal(),
            },
            "forwards": [
                {"portName": f.port_name, "host": f.host, "port": f.port, "protocol": f.protocol}
                for f in self.forwards
            ],
            "expiresAt": format_time(self.expires_at),
        } | _optional_features(self.features)

    @classmethod
    def from_payload(cls, payload: object) -> "OpenRequest":
        """Read the JSON object. Raises ProtocolError with a sentence for the operator's log."""
        body = _versioned(payload)
        relay = _field(body, "relay", dict)
        forwards = _field(body, "forwards", list)
        if not 0 < len(forwards) <= MAX_FORWARDS:
            raise ProtocolError(f"'forwards' holds 1 to {MAX_FORWARDS} entries.")
        return cls(
            tunnel=_field(body, "tunnel", str),
            uid=_field(body, "uid", str),
            correlation_id=_field(body, "correlationId", str),
            endpoint=RelayEndpoint.parse(_field(relay, "endpoint", str)),
            hybrid_connection=_field(relay, "hybridConnection", str),
            listen_token=Secret(_field(relay, "listenToken", str)),
            forwards=tuple(_forward(entry) for entry in forwards),
            expires_at=parse_time(_field(body, "expiresAt", str)),
            features=_features(body),
        )


@dataclass(frozen=True, slots=True)
class CloseRequest:
    """Asks the device to stop listening for a tunnel; done already counts as done."""

    tunnel: str
    uid: str
    correlation_id: str

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "version": VERSION,
            "tunnel": self.tunnel,
            "uid": self.uid,
            "correlationId": self.correlation_id,
        }

    @classmethod
    def from_payload(cls, payload: object) -> "CloseRequest":
        """Read the JSON object. Raises ProtocolError with a sentence for the operator's log."""
        body = _versioned(payload)
        return cls(
            tunnel=_field(body, "tunnel", str),
            uid=_field(body, "uid", str),
            correlation_id=_field(body, "correlationId", str),
        )


@dataclass(frozen=True, slots=True)
class ForwardAnswer:
    """What the device says of one forward: whether it may be opened, and whether something answers there."""

    port_name: str
    allowed: bool
    reachable: bool | None = None


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """The device's answer to an open; `features` are those of the request that it speaks, too."""

    agent: str
    listening: bool
    forwards: tuple[ForwardAnswer, ...] = ()
    features: tuple[str, ...] = ()

    def to_payload(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {
            "version": VERSION,
            "agent": self.agent,
            "listening": self.listening,
            "forwards": [
                {"portName": f.port_name, "allowed": f.allowed}
                | ({} if f.reachable is None else {"reachable": f.reachable})
                for f in self.forwards
            ],
        } | _optional_features(self.features)

    @classmethod
    def from_payload(cls, payload: object) -> "OpenAnswer":
        """Read the JSON object. Raises ProtocolError when the device does not speak version 1."""
        body = _versioned(payload)
        forwards = [] if body.get("forwards") is None else _field(body, "forwards", list)
        return cls(
            agent=_field(body, "agent", str),
            listening=_field(body, "listening", bool),
            forwards=tuple(_forward_answer(entry) for entry in forwards),
            features=_features(body),
        )


def _optional_features(features: tuple[str, ...]) -> dict[str, Any]:
    return {"features": list(features)} if features else {}


def _features(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what can be read of the features; what can not be is no reason to refuse."""
    features = body.get("features")
    known = features if isinstance(features, list) else []
    return tuple(feature for feature in known[:MAX_FEATURES] if isinstance(feature, str))


def format_time(moment: datetime) -> str:
    """Return an RFC 3339 time in UTC, to the second, as Kubernetes writes it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time. Raises ProtocolError when it is none, or has no zone."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ProtocolError(f"{text!r} is not a time with a zone, such as 2026-01-31T10:00:00Z.")


def _versioned(payload: object) -> Mapping[str, Any]:
    if not isinstance(payload, dict):
        raise ProtocolError("The payload is not a JSON object.")
    if payload.get("version") != VERSION:
        raise ProtocolError(f"The payload's version is not {VERSION}.")
    return payload


def _field(body: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = body.get(name)
    # A JSON true is an int to Python, and no port.
    if not isinstance(value, kind) or value == "" or (kind is int and isinstance(value, bool)):
        raise ProtocolError(f"The payload lacks {name!r}, or it is not of type {kind.__name__}.")
    if isinstance(value, str) and not is_text(value):
        raise ProtocolError(f"{name!r} is not Unicode text.")
    return value


def _forward(entry: object) -> Forward:
    if not isinstance(entry, dict):
        raise ProtocolError("An entry of 'forwards' is not an object.")
    port, protocol = _field(entry, "port", int), _field(entry, "protocol", str)
    if not 0 < port <= 65535 and not (port == 0 and protocol == "unix"):  # noqa: PLR2004 - TCP, UDP
        raise ProtocolError(f"The port {port} is not between 1 and 65535.")
    return Forward(
        port_name=_port_name(entry),
        host=_field(entry, "host", str),
        port=port,
        protocol=protocol,
    )


def _port_name(entry: Mapping[str, Any]) -> str:
    name = _field(entry, "portName", str)
    if name.startswith("\0"):
        raise ProtocolError("A port name that begins with NUL is reserved.")
    return name


def _forward_answer(entry: object) -> ForwardAnswer:
    if not isinstance(entry, dict):
        raise ProtocolError("An entry of 'forwards' is not an object.")
    reachable = entry.get("reachable")
    return ForwardAnswer(
        port_name=_field(entry, "portName", str),
        allowed=_field(entry, "allowed", bool),
        reachable=reachable if isinstance(reachable, bool) else None,
    )
