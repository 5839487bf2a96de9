"""The azbridge preamble, version 1.0: how a sender names the port that it wants.

    sender   -> listener   01 00 MM LL, then LL bytes: the port name in UTF-8
    listener -> sender     01 00 MM when accepted, else 00 00 RR

MM is 00 for a stream and 01 for datagrams. An unknown port name is not answered at all: the listener
closes. Read in azure-relay-bridge 0.16.1, `TcpLocalForwardBridge.cs` and `RemoteForwardBridge.cs`. A
reader sees a stream of bytes: where one message ends and the next begins means nothing.
"""

from dataclasses import dataclass, field
from enum import Enum, IntEnum

from .errors import ProtocolError, is_text

MAX_PORT_NAME = 255
"""Bytes in UTF-8; the length is a single byte, and azbridge lets a longer name wrap around in silence."""

REPLY_SECONDS = 20.0
"""How long a sender waits for the answer, in a preamble or over a shared socket.

Our listener opens the target before it answers, and gives that 10 s.
"""

_VERSION = b"\x01\x00"
_HEADER_LENGTH = 4
_REPLY_LENGTH = 3


class Mode(IntEnum):
    """What is carried after the preamble."""

    STREAM = 0
    DATAGRAM = 1


class Refusal(Enum):
    """Why a listener that answers does not accept; the value is the answer itself."""

    UNSUPPORTED = b"\x00\x00\x00"
    WANTS_DATAGRAM = b"\x00\x00\x01"
    WANTS_STREAM = b"\x00\x00\xff"


@dataclass(frozen=True, slots=True)
class PortRequest:
    """What a sender asks for."""

    port_name: str
    mode: Mode = Mode.STREAM

    def to_messages(self) -> tuple[bytes, bytes]:
        """Return the two messages, in order. Raises ProtocolError for a name that can not be sent."""
        name = self.port_name.encode() if is_text(self.port_name) else b""
        if not 0 < len(name) <= MAX_PORT_NAME:
            raise ProtocolError(f"A port name has 1 to {MAX_PORT_NAME} bytes, not {len(name)}.")
        return _VERSION + bytes((self.mode, len(name))), name


def acceptance(mode: Mode) -> bytes:
    """Return the answer of a listener that accepts."""
    return _VERSION + bytes((mode,))


@dataclass(slots=True)
class RequestReader:
    """Reads a sender's preamble from however few bytes at a time; it holds at most 259."""

    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes | memoryview) -> tuple[PortRequest, bytes] | None:
        """Take bytes; return the request and what followed it, or None while it is not complete.

        Raises ProtocolError when the version, the mode or the name can not be understood: the listener
        then answers Refusal.UNSUPPORTED.
        """
        self._buffer += data
        buffer = self._buffer
        if buffer[:2] != _VERSION[: len(buffer)]:
            raise ProtocolError("The preamble is not of version 1.0.")
        if any(mode not in (Mode.STREAM, Mode.DATAGRAM) for mode in buffer[2:3]):
            raise ProtocolError(f"The preamble asks for the unknown mode {buffer[2]}.")
        if len(buffer) < _HEADER_LENGTH or len(buffer) < _HEADER_LENGTH + buffer[3]:
            return None
        end = _HEADER_LENGTH + buffer[3]
        try:
            name = bytes(buffer[_HEADER_LENGTH:end]).decode()
        except UnicodeDecodeError:
            raise ProtocolError("The port name is not UTF-8.") from None
        if not name:
            raise ProtocolError("The port name is empty.")
        return PortRequest(name, Mode(buffer[2])), bytes(buffer[end:])


@dataclass(slots=True)
class ReplyReader:
    """Reads a listener's answer; it holds at most what one read brought."""

    mode: Mode = Mode.STREAM
    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes | memoryview) -> tuple[Refusal | None, bytes] | None:
        """Take bytes; return (None, what followed) when accepted, (the refusal, b"") when refused.

        Returns None while the answer is not complete. Raises ProtocolError for an answer of another
        protocol.
        """
        self._buffer += data
        if len(self._buffer) < _REPLY_LENGTH:
            return None
        reply, rest = bytes(self._buffer[:_REPLY_LENGTH]), bytes(self._buffer[_REPLY_LENGTH:])
        if reply == acceptance(self.mode):
            return None, rest
        try:
            return Refusal(reply), b""
        except ValueError:
            raise ProtocolError(f"The answer to the preamble is {reply.hex(' ')}.") from None
