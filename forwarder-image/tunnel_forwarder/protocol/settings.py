"""What the operator tells the local forwarder: one JSON file beside the token, mounted into its Pod.

The forwarder reads the directory again when it changes, so that a tunnel can be extended while it runs.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from .errors import ProtocolError, is_text
from .method import format_time, parse_time
from .preamble import Mode, PortRequest
from .urls import RelayEndpoint

SETTINGS_FILE = "settings.json"
TOKEN_FILE = "token"  # noqa: S105 - the name of a file
CA_FILE = "ca.crt"
"""Authorities to trust besides the system's, in PEM; absent when there are none."""

VERSION = 1
MAX_PORT = 65535

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListenPort:
    """One port of the forwarder and the port name that it stands for on the device.

    0 lets the system choose a port, for tests. The protocol is "tcp" or "udp".
    """

    name: str
    listen: int
    protocol: str = "tcp"

    @property
    def is_udp(self) -> bool:
        """Whether it takes datagrams."""
        return self.protocol == "udp"

    @property
    def mode(self) -> Mode:
        """What the device is asked to carry."""
        return Mode.DATAGRAM if self.is_udp else Mode.STREAM

    def to_entry(self) -> dict[str, object]:
        """Return the JSON object."""
        entry: dict[str, object] = {"name": self.name, "listen": self.listen}
        return entry | ({"protocol": self.protocol} if self.is_udp else {})


@dataclass(frozen=True, slots=True)
class ForwarderSettings:
    """The whole of a local forwarder's task.

    It ends by itself at `expires_at`, and after `idle_seconds` without a byte (0: never for idleness).
    With `mux` it offers the device to share one socket among all streams (`mux.py`); a device that does
    not know how is met with one socket for each. `warm_most` lets the pool of warm connections grow on
    demand (0: it has always `warm_connections`).
    """

    tunnel: str
    correlation_id: str
    endpoint: RelayEndpoint
    hybrid_connection: str
    ports: tuple[ListenPort, ...]
    expires_at: datetime
    idle_seconds: int
    warm_connections: int
    mux: bool = False
    warm_most: int = 0

    def to_json(self) -> str:
        """Return the file's text; the same settings give the same text."""
        return json.dumps(
            {
                "version": VERSION,
                "tunnel": self.tunnel,
                "correlationId": self.correlation_id,
                "relay": {
                    "endpoint": str(self.endpoint),
                    "hybridConnection": self.hybrid_connection,
                },
                "ports": [port.to_entry() for port in self.ports],
                "expiresAt": format_time(self.expires_at),
                "idleSeconds": self.idle_seconds,
                "warmConnections": self.warm_connections,
            }
            | ({"mux": True} if self.mux else {})
            | ({"warmConnectionsMost": self.warm_most} if self.warm_most else {}),
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "ForwarderSettings":
        """Read the file's text. Raises ProtocolError naming what is missing or wrong."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise ProtocolError(f"{SETTINGS_FILE} is not JSON.") from None
        version = _get(body, "version", int)
        if version != VERSION:
            raise ProtocolError(f"{SETTINGS_FILE} is of version {version}, not {VERSION}.")
        relay = _get(body, "relay", dict)
        return cls(
            tunnel=_get(body, "tunnel", str),
            correlation_id=_get(body, "correlationId", str),
            endpoint=RelayEndpoint.parse(_get(relay, "endpoint", str)),
            hybrid_connection=_get(relay, "hybridConnection", str),
            ports=_ports(_get(body, "ports", list)),
            expires_at=parse_time(_get(body, "expiresAt", str)),
            idle_seconds=_count(body, "idleSeconds"),
            warm_connections=_count(body, "warmConnections"),
            mux=_get(body, "mux", bool) if "mux" in body else False,
            warm_most=_count(body, "warmConnectionsMost") if "warmConnectionsMost" in body else 0,
        )


def _ports(entries: list[object]) -> tuple[ListenPort, ...]:
    ports = tuple(_port(entry) for entry in entries)
    if not ports:
        raise ProtocolError(f"{SETTINGS_FILE} names no port.")
    for port in ports:
        PortRequest(port.name).to_messages()  # raises for a name that can not be sent
        if port.name.startswith("\0"):
            raise ProtocolError(f"{SETTINGS_FILE}: a port name that begins with NUL is reserved.")
        if port.listen > MAX_PORT:
            raise ProtocolError(f"{SETTINGS_FILE}: {port.listen} is no TCP port.")
    names = [port.name for port in ports]
    listens = [(port.listen, port.is_udp) for port in ports if port.listen]
    if len(set(names)) != len(names) or len(set(listens)) != len(listens):
        raise ProtocolError(f"{SETTINGS_FILE} has the same port twice.")
    return ports


def _port(entry: object) -> ListenPort:
    named = isinstance(entry, dict) and "protocol" in entry
    protocol = _get(entry, "protocol", str) if named else "tcp"
    if protocol not in ("tcp", "udp"):
        raise ProtocolError(f"{SETTINGS_FILE}: {protocol!r} is neither tcp nor udp.")
    return ListenPort(_get(entry, "name", str), _count(entry, "listen"), protocol)


def _count(body: object, name: str) -> int:
    value = _get(body, name, int)
    if isinstance(value, bool) or value < 0:
        raise ProtocolError(f"{SETTINGS_FILE}: {name!r} is not a number from 0 upwards.")
    return value


def _get(body: object, name: str, kind: type[T]) -> T:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind) or value == "":
        raise ProtocolError(
            f"{SETTINGS_FILE} lacks {name!r}, or it is not of type {kind.__name__}."
        )
    if isinstance(value, str) and not is_text(value):
        raise ProtocolError(f"{SETTINGS_FILE}: {name!r} is not Unicode text.")
    return value
