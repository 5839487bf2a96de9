"""Relayed HTTP requests and responses as JSON: no I/O.

Documentation "Hybrid Connections protocol", sections "Request message" and "Responding to requests".
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunnel_forwarder.protocol.errors import ProtocolError

from .head import HEADER_NAME, RelayRequest

MAX_CONTROL_HEADERS = 32 * 1024
MAX_CONTROL_TOTAL = 64 * 1024
"""Bytes of headers, and of headers and body, beyond which a request or response needs a rendezvous."""

ASSUMED_HOST_PASSED = True
"""`Host` is in `requestHeaders`: the documentation's list strips it, its example shows it."""

ASSUMED_FORBIDDEN_STATUS = 500
"""What a sender gets for a listener's 502 or 504: the documentation keeps both for the service."""

_FORBIDDEN = (502, 504)
_MIN_STATUS, _MAX_STATUS = 200, 599
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# RFC 7230, as the documentation lists them, and what else belongs to one connection (RFC 9110, 7.6.1).
# Expect is answered here.
_STRIPPED = frozenset(
    {
        "connection",
        "content-length",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "close",
        "keep-alive",
        "proxy-connection",
        "expect",
    }
    | (set() if ASSUMED_HOST_PASSED else {"host"})
)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A listener's `response` message; `has_body` tells that binary frames follow."""

    request_id: str
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    has_body: bool


def request_headers(request: RelayRequest, *, authorized: bool, via: str) -> dict[str, str]:
    """Return the headers that a listener sees: none of one connection alone, no token, and `Via`."""
    named = {part.strip().lower() for part in (request.head.get("Connection") or "").split(",")}
    headers = {
        name: value
        for name, value in request.visible_headers(authorized=authorized).items()
        if name.lower() not in _STRIPPED | named | {"via"}
    }
    before = request.head.get("Via")
    headers["Via"] = f"1.1 {via}" if before is None else f"{before}, 1.1 {via}"
    return headers


def request_message(
    request: RelayRequest, *, address: str, request_id: str, headers: Mapping[str, str], body: bool
) -> str:
    """Return the `request` message in full."""
    target = request.raw_path + (f"?{request.user_query}" if request.user_query else "")
    return _to_json(
        {
            "address": address,
            "id": request_id,
            "requestTarget": target,
            "method": request.head.method,
            "requestHeaders": dict(headers),
            "body": body,
        }
    )


def rendezvous_message(*, address: str, request_id: str) -> str:
    """Return the `request` message that only says where to fetch the request."""
    return _to_json({"address": address, "id": request_id})


def header_size(headers: Mapping[str, str]) -> int:
    """Return the headers' size as they would stand in an HTTP message."""
    return sum(len(name) + len(value) + 4 for name, value in headers.items())


def parse_response(text: bytes) -> ResponseHead | None:
    """Read a `response` message; None for any other. Raises ProtocolError when it is malformed."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("A message is not JSON.") from None
    match message:
        case {"response": dict(body)}:
            return _response(body)
        case _:
            return None


def _response(body: dict[str, Any]) -> ResponseHead:
    request_id, reason = body.get("requestId"), body.get("statusDescription") or ""
    if not isinstance(request_id, str):
        raise ProtocolError("A response lacks 'requestId'.")
    if not isinstance(reason, str) or not _PRINTABLE.fullmatch(reason):
        raise ProtocolError("A response's 'statusDescription' is malformed.")
    status = _status(body.get("statusCode"))
    if status in _FORBIDDEN:
        status, reason = ASSUMED_FORBIDDEN_STATUS, ""
    headers = _headers(body.get("responseHeaders") or {})
    return ResponseHead(request_id, status, reason, headers, body.get("body") is True)


def _status(value: object) -> int:
    # The table says "number", the example beside it shows a string.
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    number = int(text) if re.fullmatch(r"[0-9]{3}", text, re.ASCII) else 0
    if not _MIN_STATUS <= number <= _MAX_STATUS:
        raise ProtocolError("A response's 'statusCode' is not a final HTTP status.")
    return number


def _headers(raw: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, dict):
        raise ProtocolError("A response's 'responseHeaders' is not an object.")
    headers = [
        (name, value)
        for name, given in raw.items()
        # Node writes a header that occurs more than once, such as Set-Cookie, as a list.
        for value in (given if isinstance(given, list) else [given])
    ]
    found = [(name, str(value)) for name, value in headers if isinstance(value, str | int)]
    if len(found) != len(headers) or not all(
        HEADER_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in found
    ):
        raise ProtocolError("A response's header is malformed.")
    if sum(len(name) + len(value) + 4 for name, value in found) > MAX_CONTROL_HEADERS:
        raise ProtocolError("A response's headers are larger than 32 kB.")
    return tuple((name, value) for name, value in found if name.lower() not in _STRIPPED)


def _to_json(body: dict[str, Any]) -> str:
    return json.dumps({"request": body})
