"""What can keep a stream from being set up, and why.

    TunnelError
    ├── DialError     a WebSocket was not opened
    ├── LinkLostError      a WebSocket that was open has ended without a proper end
    └── RefusedError       the stream can not be had, though the relay answered

`Reason` is a closed list: it labels a metric and a log line, and it is what other code decides by.
Messages are sentences for people and hold no secrets.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a stream was not set up."""

    NO_LISTENER = "no_listener"
    UNAUTHORIZED = "unauthorized"
    EXPIRED = "expired"
    PROXY_REFUSED = "proxy_refused"
    DIAL_TIMEOUT = "dial_timeout"
    DIAL_REFUSED = "dial_refused"
    UNREACHABLE = "unreachable"
    LINK_LOST = "link_lost"
    NO_REPLY = "no_reply"
    UNKNOWN_PORT = "unknown_port"
    MODE_MISMATCH = "mode_mismatch"
    UNSUPPORTED = "unsupported"
    TARGET_REFUSED = "target_refused"
    TOO_MANY_STREAMS = "too_many_streams"


class TunnelError(Exception):
    """A stream or channel could not be had."""

    reason: Reason

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class DialError(TunnelError):
    """A WebSocket was not opened; `status` is the relay's HTTP status when there was one."""

    def __init__(self, reason: Reason, message: str, *, status: int | None = None) -> None:
        super().__init__(reason, message)
        self.status = status


class LinkLostError(TunnelError):
    """A WebSocket ended otherwise than by an orderly Close."""

    def __init__(self, message: str, reason: Reason = Reason.LINK_LOST) -> None:
        super().__init__(reason, message)


class RefusedError(TunnelError):
    """The other end does not give the stream that was asked for."""
