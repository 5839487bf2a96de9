"""What the operator tells the local forwarder: one JSON file beside the token, mounted into its Pod.

The forwarder reads the directory again when it changes, so that a tunnel can be extended while it runs.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .errors import ProtocolError
from .method import format_time, parse_time
from .urls import RelayEndpoint

SETTINGS_FILE = "settings.json"
TOKEN_FILE = "token"  # noqa: S105 - the name of a file
CA_FILE = "ca.crt"
"""Authorities to trust besides the system's, in PEM; absent when there are none."""

VERSION = 1


@dataclass(frozen=True, slots=True)
class ListenPort:
    """One TCP port of the forwarder and the port name that it stands for on the device."""

    name: str
    listen: int


@dataclass(frozen=True, slots=True)
class ForwarderSettings:
    """The whole of a local forwarder's task.

    It ends by itself at `expires_at`, and after `idle_seconds` without a byte (0: never for idleness).
    """

    tunnel: str
    correlation_id: str
    endpoint: RelayEndpoint
    hybrid_connection: str
    ports: tuple[ListenPort, ...]
    expires_at: datetime
    idle_seconds: int
    warm_connections: int

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
                "ports": [{"name": port.name, "listen": port.listen} for port in self.ports],
                "expiresAt": format_time(self.expires_at),
                "idleSeconds": self.idle_seconds,
                "warmConnections": self.warm_connections,
            },
            indent=2,
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> "ForwarderSettings":
        """Read the file's text. Raises ProtocolError naming what is missing or wrong."""
        try:
            body: dict[str, Any] = json.loads(text)
            if body["version"] != VERSION:
                raise ProtocolError(
                    f"{SETTINGS_FILE} is of version {body['version']}, not {VERSION}."
                )
            return cls(
                tunnel=str(body["tunnel"]),
                correlation_id=str(body["correlationId"]),
                endpoint=RelayEndpoint.parse(body["relay"]["endpoint"]),
                hybrid_connection=str(body["relay"]["hybridConnection"]),
                ports=tuple(ListenPort(str(p["name"]), int(p["listen"])) for p in body["ports"]),
                expires_at=parse_time(body["expiresAt"]),
                idle_seconds=int(body["idleSeconds"]),
                warm_connections=int(body["warmConnections"]),
            )
        except json.JSONDecodeError:
            raise ProtocolError(f"{SETTINGS_FILE} is not JSON.") from None
        except KeyError as error:
            raise ProtocolError(f"{SETTINGS_FILE} lacks {error}.") from None
        except (TypeError, AttributeError):
            raise ProtocolError(
                f"{SETTINGS_FILE} does not have the form that is expected."
            ) from None
