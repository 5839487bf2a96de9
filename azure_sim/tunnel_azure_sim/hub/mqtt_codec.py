"""MQTT 3.1.1 as a server needs it: a client's packets in, a server's packets out. No I/O.

OASIS standard "MQTT Version 3.1.1"; section numbers below are its own. There is no well-kept codec without
I/O on the package index that reads 3.1.1, and this is all of it that devices send.
"""

import struct
from dataclasses import dataclass, field

MAX_PACKET = 256 * 1024 + 1024
"""Bytes; IoT Hub's messages have at most 256 kB (documentation "IoT Hub quotas")."""

PINGRESP = b"\xd0\x00"

_MAX_LENGTH_BYTES = 4
_PROTOCOL_LEVEL = 4
_PUBLISH = 3
_FLAGS = {1: 0, 4: 0, 8: 2, 10: 2, 12: 0, 14: 0}
"""The types of packet that clients send, with the only flags they may have (section 2.2.2).

PUBLISH has its own.
"""


class MqttError(Exception):
    """The peer broke the protocol: the connection is closed (section 4.8)."""


@dataclass(frozen=True, slots=True)
class Connect:
    """A client introduces itself. `level` is 4 for version 3.1.1; others are to be refused."""

    level: int
    client_id: str
    keep_alive: int
    clean_session: bool
    user_name: str | None
    password: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Publish:
    """A message, either way. `packet_id` is 0 with QoS 0."""

    topic: str
    payload: bytes = field(repr=False)
    qos: int = 0
    packet_id: int = 0


@dataclass(frozen=True, slots=True)
class PubAck:
    """A client has a message of QoS 1."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A client wants topics, each with the highest QoS that it takes."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """A client wants topics no more."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PingReq:
    """A client shows that it is there."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A client leaves."""


Packet = Connect | Publish | PubAck | Subscribe | Unsubscribe | PingReq | Disconnect


class Decoder:
    """Reads a client's packets from however few bytes at a time; it holds one packet at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Packet]:
        """Take bytes and return the packets that are complete. Raises MqttError."""
        self._buffer += data
        packets: list[Packet] = []
        _check_first(self._buffer)
        while (span := _span(self._buffer)) is not None and len(self._buffer) >= span[1]:
            start, end = span
            first, body = self._buffer[0], bytes(self._buffer[start:end])
            del self._buffer[:end]
            packets.append(_decode(first >> 4, first & 0x0F, _Reader(body)))
            _check_first(self._buffer)
        return packets


class _Reader:
    """Takes a packet's body apart; whatever is missing raises MqttError."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._body):
            raise MqttError("A packet is shorter than its content.")
        self._at += count
        return self._body[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def text(self) -> str:
        try:
            text = self.take(self.number()).decode()
        except UnicodeDecodeError:
            raise MqttError("A text is not UTF-8.") from None
        if "\0" in text:
            raise MqttError("A text contains U+0000.")  # section 1.5.3
        return text

    def packet_id(self) -> int:
        number = self.number()
        if number == 0:
            raise MqttError("A packet identifier is zero.")  # section 2.3.1
        return number

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)

    def has_more(self) -> bool:
        return self._at < len(self._body)


def _span(buffer: bytearray) -> tuple[int, int] | None:
    """Return where the first packet's body begins and ends; None while that is not known (2.2.3)."""
    length = 0
    for index, byte in enumerate(buffer[1 : 1 + _MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * index)
        if byte & 0x80 == 0:
            if length > MAX_PACKET:
                raise MqttError("A packet is too large.")
            return 2 + index, 2 + index + length
    if len(buffer) > _MAX_LENGTH_BYTES:
        raise MqttError("A packet's length is malformed.")
    return None


def _check_first(buffer: bytearray) -> None:
    """Refuse a packet by its first byte, so that nothing is waited for in another protocol's bytes."""
    if not buffer:
        return
    kind, flags = buffer[0] >> 4, buffer[0] & 0x0F
    if kind != _PUBLISH and _FLAGS.get(kind) != flags:
        raise MqttError("A client sends no packets of this type, or not with these flags.")


def _decode(kind: int, flags: int, reader: _Reader) -> Packet:
    packet: Packet
    match kind:
        case 1:
            packet = _connect(reader)
        case 3:
            packet = _publish(flags, reader)
        case 4:
            packet = PubAck(reader.packet_id())
        case 8:
            packet = _subscribe(reader)
        case 10:
            packet = _unsubscribe(reader)
        case 12:
            packet = PingReq()
        case _:
            packet = Disconnect()
    if reader.has_more():
        raise MqttError("A packet is longer than its content.")
    return packet


def _connect(reader: _Reader) -> Connect:
    if reader.text() not in ("MQTT", "MQIsdp"):
        raise MqttError("The protocol is not MQTT.")
    level = reader.byte()
    if level != _PROTOCOL_LEVEL:
        # What follows may have another form; the level alone is answered (section 3.1.2.2).
        reader.rest()
        return Connect(level, "", 0, clean_session=True, user_name=None, password=None)
    flags = reader.byte()
    has_user, has_password, has_will = flags & 0x80, flags & 0x40, flags & 0x04
    if flags & 0x01 or (has_password and not has_user) or (not has_will and flags & 0x38):
        raise MqttError("CONNECT has contradicting flags.")  # section 3.1.2
    keep_alive = reader.number()
    client_id = reader.text()
    if has_will:
        reader.text()
        reader.take(reader.number())
    user_name = reader.text() if has_user else None
    password = _password(reader) if has_password else None
    return Connect(
        level, client_id, keep_alive, bool(flags & 0x02), user_name=user_name, password=password
    )


def _password(reader: _Reader) -> str:
    # Bytes by the standard; a token is ASCII, and anything else is no token.
    return reader.take(reader.number()).decode("ascii", "replace")


def _publish(flags: int, reader: _Reader) -> Publish:
    qos = (flags >> 1) & 0x03
    if qos == 3:  # noqa: PLR2004 - section 3.3.1.2
        raise MqttError("PUBLISH has QoS 3.")
    topic = reader.text()
    if not topic or "+" in topic or "#" in topic:
        raise MqttError("PUBLISH names no topic.")  # section 3.3.2.1
    packet_id = reader.packet_id() if qos else 0
    return Publish(topic, reader.rest(), qos, packet_id)


def _subscribe(reader: _Reader) -> Subscribe:
    packet_id, filters = reader.packet_id(), []
    while reader.has_more():
        name, qos = reader.text(), reader.byte()
        if not name or qos > 2:  # noqa: PLR2004 - section 3.8.3.1
            raise MqttError("SUBSCRIBE is malformed.")
        filters.append((name, qos))
    if not filters:
        raise MqttError("SUBSCRIBE names no topic.")
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(reader: _Reader) -> Unsubscribe:
    packet_id, filters = reader.packet_id(), []
    while reader.has_more():
        filters.append(reader.text())
    if not filters:
        raise MqttError("UNSUBSCRIBE names no topic.")
    return Unsubscribe(packet_id, tuple(filters))


def connack(code: int, *, session_present: bool = False) -> bytes:
    """Return the answer to CONNECT: the code 0 is yes (section 3.2.2.3)."""
    return bytes((0x20, 2, session_present, code))


def puback(packet_id: int) -> bytes:
    """Return the answer to a PUBLISH of QoS 1."""
    return b"\x40\x02" + struct.pack("!H", packet_id)


def suback(packet_id: int, granted: tuple[int, ...]) -> bytes:
    """Return the answer to SUBSCRIBE: a QoS or 0x80 (refused) for each filter."""
    return _packet(0x90, struct.pack("!H", packet_id) + bytes(granted))


def unsuback(packet_id: int) -> bytes:
    """Return the answer to UNSUBSCRIBE."""
    return b"\xb0\x02" + struct.pack("!H", packet_id)


def publish(topic: str, payload: bytes) -> bytes:
    """Return a PUBLISH of QoS 0."""
    name = topic.encode()
    return _packet(0x30, struct.pack("!H", len(name)) + name + payload)


def _packet(first: int, body: bytes) -> bytes:
    length, head = len(body), bytearray((first,))
    while True:
        length, low = divmod(length, 128)
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body
