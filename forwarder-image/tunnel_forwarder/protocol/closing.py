"""Close frames of a rendezvoused WebSocket, and what this project's listeners say in them.

Azure Relay's documentation gives 1000 for "the other side closed" and 1001, 1008 and 1011 for losses.
Whether a reason passes through the relay is not documented, so it is a help for people and never needed.
"""

NO_CODE = 1005
"""A Close frame without a code (RFC 6455, section 7.1.5); never on the wire itself."""

ABRUPT = 1006
"""No Close frame at all; never on the wire itself."""

TOKEN_EXPIRED = 1008
"""What the service closes with when a token has expired (documentation "Hybrid Connections protocol")."""

TARGET_REFUSED = "target refused"
"""The listener could not open the target; it closes with 1011 instead of answering the preamble."""


def parse(payload: bytes) -> tuple[int, str]:
    """Return the code and the reason in a Close frame's payload."""
    if len(payload) < 2:  # noqa: PLR2004 - the length of a code
        return NO_CODE, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")
