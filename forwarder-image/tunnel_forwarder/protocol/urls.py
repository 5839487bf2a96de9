"""The addresses of a hybrid connection (documentation "Azure Relay Hybrid Connections protocol")."""

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from .errors import ProtocolError

TOKEN_HEADER = "ServiceBusAuthorization"  # noqa: S105 - the name of a header
"""Carries the token of a listener or sender. Preferred to the query, which ends up in access logs."""

_ENDPOINT = re.compile(
    r"sb://([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?/?", re.IGNORECASE | re.ASCII
)

RENDEZVOUS_SECONDS = 30
"""How long an accept address is good for, at most (same document)."""


def new_tracking_id() -> str:
    """Return an id by which both logs and the relay's know a socket; any text will do."""
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True)
class RelayEndpoint:
    """Where a relay namespace answers: `sb://host[:port]/` in Azure's own spelling."""

    host: str
    port: int = 443

    @classmethod
    def parse(cls, text: str) -> "RelayEndpoint":
        """Read `sb://host[:port]/`. Raises ProtocolError for anything else."""
        match = _ENDPOINT.fullmatch(text)
        port = int(match[2] or 443) if match else 0
        if match is None or not 0 < port <= 65535:  # noqa: PLR2004 - a TCP port
            raise ProtocolError(
                f"The relay endpoint {text!r} is not of the form sb://NAMESPACE.servicebus.windows.net/."
            )
        return cls(match[1].strip("[]").lower(), port)

    @property
    def authority(self) -> str:
        """The host with its port, unless that is the usual one, for URLs and the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"  # noqa: PLR2004 - https

    def __str__(self) -> str:
        return f"sb://{self.authority}/"


def listen_url(endpoint: RelayEndpoint, path: str, *, tracking_id: str) -> str:
    """Return the address of a listener's control channel."""
    return _url(endpoint, path, "listen", tracking_id)


def connect_url(endpoint: RelayEndpoint, path: str, *, tracking_id: str) -> str:
    """Return the address at which a sender asks for a rendezvous with a listener."""
    return _url(endpoint, path, "connect", tracking_id)


def reject_url(address: str, *, status: int, description: str) -> str:
    """Return the address by which a listener refuses the sender of an accept message.

    Opening it fails with 410 by design: that is the acknowledgement.
    """
    query = urlencode({"sb-hc-statusCode": status, "sb-hc-statusDescription": description})
    return f"{address}&{query}"


def _url(endpoint: RelayEndpoint, path: str, action: str, tracking_id: str) -> str:
    query = urlencode({"sb-hc-action": action, "sb-hc-id": tracking_id})
    return f"wss://{endpoint.authority}/$hc/{quote(path, safe='/')}?{query}"
