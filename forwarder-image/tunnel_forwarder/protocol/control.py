"""The JSON messages of a listener's control channel (documentation "Hybrid Connections protocol")."""

import json
from dataclasses import dataclass, field
from typing import Any

from .errors import ProtocolError
from .secret import Secret


@dataclass(frozen=True, slots=True)
class Accept:
    """Azure Relay tells a listener that a sender waits at `address` (once, for at most 30 s)."""

    # The address is the credential for the rendezvous: kept out of logs.
    address: str = field(repr=False)
    id: str
    connect_headers: dict[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> str:
        """Return the message as Azure Relay sends it."""
        body = {"address": self.address, "id": self.id, "connectHeaders": self.connect_headers}
        return json.dumps({"accept": body})


@dataclass(frozen=True, slots=True)
class Request:
    """Azure Relay passes a plain HTTP request on, which this project's listeners do not serve."""

    address: str = field(repr=False)
    id: str


@dataclass(frozen=True, slots=True)
class RenewToken:
    """A listener hands in a new token before the one that it came with expires."""

    token: Secret

    def to_json(self) -> str:
        """Return the message as a listener sends it."""
        return json.dumps({"renewToken": {"token": self.token.reveal()}})


ControlMessage = Accept | Request | RenewToken


def parse(text: str | bytes) -> ControlMessage | None:
    """Read one message; None for a kind that is not known, which the protocol asks to ignore.

    Raises ProtocolError for what is not JSON, or lacks a part that its kind needs.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("A control message is not JSON.") from None
    if not isinstance(message, dict):
        raise ProtocolError("A control message is not a JSON object.")
    match message:
        case {"accept": dict(body)}:
            headers = body.get("connectHeaders")
            return Accept(
                address=_text(body, "address"),
                id=_text(body, "id"),
                connect_headers=_headers(headers) if isinstance(headers, dict) else {},
            )
        case {"request": dict(body)}:
            return Request(address=_text(body, "address"), id=_text(body, "id"))
        case {"renewToken": dict(body)}:
            return RenewToken(Secret(_text(body, "token")))
        case _:
            return None


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ProtocolError(f"A control message lacks {name!r}.")
    return value


def _headers(raw: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in raw.items() if isinstance(value, str)}
