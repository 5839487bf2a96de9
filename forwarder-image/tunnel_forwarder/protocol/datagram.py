"""Datagrams on a stream of bytes: two bytes of length, big-endian, then so many bytes.

Read in azure-relay-bridge 0.16.1, `UdpLocalForwardBridge.cs` and `UdpRemoteForwarder.cs`. There a partial
read starts over at offset 0, so a frame that is cut on the way comes to harm; each is written as one
message for that reason, and read here however it is cut.
"""

from dataclasses import dataclass, field

MAX_DATAGRAM = 0xFFFF
IDLE_SECONDS = 240.0
"""Without a datagram, either end lets go of the stream, as azbridge does."""

_HEADER_LENGTH = 2


def frame(datagram: bytes | memoryview) -> bytes:
    """Return a datagram, of at most MAX_DATAGRAM bytes, as it goes into the stream."""
    return b"".join((len(datagram).to_bytes(_HEADER_LENGTH, "big"), datagram))


@dataclass(slots=True)
class DatagramReader:
    """Cuts datagrams out of however few bytes at a time; it holds less than one."""

    _rest: bytearray = field(default_factory=bytearray)

    @property
    def holds_part(self) -> bool:
        """Whether an end now would cut a datagram off."""
        return bool(self._rest)

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take bytes and return the datagrams that are complete now."""
        rest, datagrams, at = self._rest, list[bytes](), 0
        rest += data
        while len(rest) - at >= _HEADER_LENGTH:
            end = at + _HEADER_LENGTH + int.from_bytes(rest[at : at + _HEADER_LENGTH], "big")
            if end > len(rest):
                break
            datagrams.append(bytes(rest[at + _HEADER_LENGTH : end]))
            at = end
        del rest[:at]
        return datagrams
