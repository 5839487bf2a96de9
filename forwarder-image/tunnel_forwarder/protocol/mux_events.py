"""What a multiplexer (`mux.py`) makes of the bytes that its peer sends."""

from dataclasses import dataclass
from enum import IntEnum

from .preamble import PortRequest


class RefusalCode(IntEnum):
    """Why a stream is refused."""

    UNKNOWN_PORT = 1
    MODE_MISMATCH = 2
    TARGET_REFUSED = 3
    TOO_MANY_STREAMS = 4


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer asks for a stream."""

    stream: int
    request: PortRequest


@dataclass(frozen=True, slots=True)
class Accepted:
    """The peer gives the stream."""

    stream: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The peer does not give the stream, which is over; `code` may be one that is not known here."""

    stream: int
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes; to be acknowledged by `consumed` when whoever reads them has room for more."""

    stream: int
    payload: memoryview


@dataclass(frozen=True, slots=True)
class Ended:
    """The peer's direction has ended in order."""

    stream: int


@dataclass(frozen=True, slots=True)
class WasReset:
    """The stream is over, and incomplete."""

    stream: int
    text: str


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The peer takes no further streams on this socket."""


Event = Opened | Accepted | Refused | Data | Ended | WasReset | GoingAway
