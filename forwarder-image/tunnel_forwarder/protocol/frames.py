"""The frames of the streams-in-one-socket mode, `mux/1`: how they look, and how they are cut out of bytes.

    TT LL LL LL  SS SS SS SS  payload        type, length of the payload, stream, all big-endian

Of a stream of bytes, as everything in this bridge: one WebSocket message may hold several frames, or a
part of one.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from .errors import ProtocolError

MAX_PAYLOAD = 64 * 1024
"""Bytes; one read of a TCP end."""

HEADER_LENGTH = 8

_HEADER = struct.Struct(">II")
_LENGTH_BITS = 24


class Kind(IntEnum):
    """What a frame says. Stream 0 is the connection itself."""

    OPEN = 1
    """Opener: begin a stream. The mode in one byte, then the port name in UTF-8."""
    ACCEPT = 2
    """Acceptor: the target stands."""
    REFUSE = 3
    """Acceptor: there will be no stream. One byte says why, then a sentence in UTF-8."""
    DATA = 4
    """Bytes, at most as many as there is credit for. The opener need not wait for ACCEPT."""
    CREDIT = 5
    """The peer may send so many bytes more (4 bytes)."""
    EOF = 6
    """No more DATA from here; the other direction goes on."""
    RESET = 7
    """The stream is over, and incomplete. A sentence in UTF-8."""
    BLOCKED = 8
    """There are bytes to send and no credit: a reader that keeps up may grant a larger window."""
    GOAWAY = 9
    """On stream 0: open no more streams on this socket; those that are open go on."""


_LENGTHS: dict[int, tuple[int, int]] = {
    Kind.OPEN: (2, 256),
    Kind.ACCEPT: (0, 0),
    Kind.REFUSE: (1, 256),
    Kind.DATA: (1, MAX_PAYLOAD),
    Kind.CREDIT: (4, 4),
    Kind.EOF: (0, 0),
    Kind.RESET: (0, 256),
    Kind.BLOCKED: (0, 0),
    Kind.GOAWAY: (0, 0),
}
_GOAWAY = int(Kind.GOAWAY)

Frame = tuple[int, int, memoryview]
"""The kind, the stream, and the payload, which stays good as long as it is held."""


def make_frame(kind: int, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Return a frame's bytes; the payload is copied, once."""
    return b"".join((_HEADER.pack(kind << _LENGTH_BITS | len(payload), stream), payload))


@dataclass(slots=True)
class FrameReader:
    """Cuts frames out of however few bytes at a time; it holds less than one frame."""

    _rest: bytearray = field(default_factory=bytearray)
    _wanted: int = HEADER_LENGTH

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes and return the frames that are complete now.

        Raises ProtocolError for a frame that can not be, before its payload is waited for.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
        frames: list[Frame] = []
        view, at, size = memoryview(data), 0, len(data)
        self._wanted = HEADER_LENGTH
        while size - at >= HEADER_LENGTH:
            word, stream = _HEADER.unpack_from(data, at)
            kind, length = word >> _LENGTH_BITS, word & 0xFFFFFF
            _check(kind, stream, length)
            end = at + HEADER_LENGTH + length
            if end > size:
                self._wanted = end - at
                break
            frames.append((kind, stream, view[at + HEADER_LENGTH : end]))
            at = end
        self._rest = bytearray(view[at:])
        return frames


def _check(kind: int, stream: int, length: int) -> None:
    bounds = _LENGTHS.get(kind)
    if bounds is None:
        raise ProtocolError(f"There is no frame of type {kind}.")
    if not bounds[0] <= length <= bounds[1]:
        raise ProtocolError(f"A frame of type {Kind(kind).name} does not have {length} bytes.")
    if (stream == 0) != (kind == _GOAWAY):
        raise ProtocolError(f"A frame of type {Kind(kind).name} is not for stream {stream}.")
