"""The HTTP request that opens a socket: bytes in, values out, no I/O.

Documentation "Hybrid Connections protocol" for the query parameters, RFC 6455 section 4.2.1 for what an
upgrade must carry.
"""

import base64
import binascii
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote, unquote_plus

from tunnel_forwarder.protocol.urls import TOKEN_HEADER

from .errors import Refused

MAX_HEAD = 32 * 1024
"""Bytes of an upgrade's head; the documentation allows 32 kB of headers."""

MAX_HTTP_HEAD = 64 * 1024
"""Bytes of a relayed HTTP request's head; above 32 kB of headers it takes the way of the rendezvous."""

_INFIX = "$hc"
_PREFIX = "sb-hc-"
_KEY_BYTES = 16
_REQUEST_LINE_PARTS = 3
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")  # RFC 9110, section 5.6.2


@dataclass(frozen=True, slots=True)
class Head:
    """A request's line and headers, names and values as they came."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Return a header; several of one name are joined as HTTP allows."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None


@dataclass(frozen=True, slots=True)
class RelayRequest:
    """What a WebSocket upgrade, or a relayed HTTP request, asks of the relay."""

    head: Head
    raw_path: str
    path: tuple[str, ...]
    """The segments after `$hc`, if that is there: the hybrid connection's and those of the suffix."""

    parameters: dict[str, str]
    """The `sb-hc-` parameters, without that prefix."""

    user_query: str
    """All other parameters, as they came."""

    @property
    def action(self) -> str:
        """What is asked for; `connect` when nothing is said (Azure/azure-relay-dotnet issue 94)."""
        return self.parameters.get("action", "connect")

    @property
    def token(self) -> str | None:
        """The token, wherever it is; the order is that of the documentation's "Request operation"."""
        return (
            self.parameters.get("token")
            or self.head.get(TOKEN_HEADER)
            or self.head.get("Authorization")
        )

    @property
    def offered_protocols(self) -> tuple[str, ...]:
        """The WebSocket sub-protocols that the client offers, in its order."""
        value = self.head.get("Sec-WebSocket-Protocol") or ""
        return tuple(part.strip() for part in value.split(",") if part.strip())

    def visible_headers(self, *, authorized: bool) -> dict[str, str]:
        """Return the headers that the listener may see.

        The relay's own token is always taken out; `Authorization` only where it served as that token.
        """
        hidden = {TOKEN_HEADER.lower()}
        has_own = self.parameters.get("token") or self.head.get(TOKEN_HEADER)
        if authorized and not has_own:
            hidden.add("authorization")
        names = dict.fromkeys(name for name, _ in self.head.headers if name.lower() not in hidden)
        return {name: self.head.get(name) or "" for name in names}


def parse_head(raw: bytes) -> Head:
    """Read a request up to and without its empty line. Raises Refused (400)."""
    try:
        lines = raw.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise Refused(400, "The request's head is not ASCII.") from None
    parts = lines[0].split(" ")
    if len(parts) != _REQUEST_LINE_PARTS or parts[2] != "HTTP/1.1" or not parts[1].startswith("/"):
        raise Refused(400, "The request line is malformed.")
    return Head(parts[0], parts[1], tuple(_header(line) for line in lines[1:]))


def parse_request(head: Head) -> RelayRequest:
    """Read what a WebSocket upgrade asks for. Raises Refused when it is none, or is not for the relay."""
    request = _split(head)
    if not request.path or request.path[0] != _INFIX:
        raise Refused(404, "Only WebSockets below /$hc/ are served.")
    _check_upgrade(head)
    return replace(request, path=request.path[1:])


def is_relayed_http(head: Head) -> bool:
    """Whether a request is to be relayed as it is: "without the $hc infix", "except protocol upgrades"."""
    segments = _segments(head.target.partition("?")[0])
    return segments[:1] != (_INFIX,) and not head.get("Upgrade")


def parse_relayed_http(head: Head) -> RelayRequest:
    """Read a plain HTTP request that a listener is to answer."""
    return _split(head)


def _split(head: Head) -> RelayRequest:
    raw_path, _, query = head.target.partition("?")
    own, others = {}, []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if unquote_plus(name).startswith(_PREFIX):
            # A plus sign is kept: tokens hold base64, and not every client escapes it.
            own[unquote(name).removeprefix(_PREFIX)] = unquote(value)
        else:
            others.append(part)
    return RelayRequest(head, raw_path, _segments(raw_path), own, "&".join(others))


def _segments(raw_path: str) -> tuple[str, ...]:
    return tuple(part for part in unquote(raw_path).split("/") if part)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not HEADER_NAME.fullmatch(name):
        raise Refused(400, "A header is malformed.")
    return name, value.strip()


def _check_upgrade(head: Head) -> None:
    connection = {part.strip().lower() for part in (head.get("Connection") or "").split(",")}
    if (
        head.method != "GET"
        or (head.get("Upgrade") or "").lower() != "websocket"
        or "upgrade" not in connection
    ):
        # Text and status as reported in Azure/azure-relay-dotnet issue 135.
        raise Refused(400, "This endpoint is only for web-socket requests.")
    if head.get("Sec-WebSocket-Version") != "13":
        raise Refused(400, "Sec-WebSocket-Version must be 13.")
    try:
        key = base64.b64decode(head.get("Sec-WebSocket-Key") or "", validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise Refused(400, "Sec-WebSocket-Key is not 16 bytes in base64.")
