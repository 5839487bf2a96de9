"""A WebSocket client that does only what it is told, frame by frame."""

import asyncio
import base64
import contextlib
import json
import secrets
import ssl
import struct
from dataclasses import dataclass

import pytest

from tunnel_forwarder.protocol.urls import TOKEN_HEADER

DEADLINE = 5.0
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Refusal(Exception):  # noqa: N818 - an answer, not an error
    status: int
    reason: str


@dataclass(frozen=True)
class Frame:
    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def close_code(self):
        assert self.opcode == CLOSE
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else None

    @property
    def json(self):
        return json.loads(self.payload)


def encode(opcode, payload=b"", *, fin=True, rsv=0, masked=True):
    head = bytearray([(0x80 if fin else 0) | rsv << 4 | opcode])
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        head.append(bit | len(payload))
    elif len(payload) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return bytes(head) + payload
    mask = secrets.token_bytes(4)
    stream = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return bytes(head) + mask + mixed.to_bytes(len(payload), "big")


async def rest_of(reader):
    """Return what still comes until a connection ends, in whatever way."""
    async with asyncio.timeout(DEADLINE):
        try:
            return await reader.read()
        except (ConnectionError, ssl.SSLError):
            return b""


class RawWebSocket:
    """An upgraded connection. It answers nothing by itself."""

    def __init__(self, reader, writer, headers):
        self.reader, self.writer, self.headers = reader, writer, headers

    async def send(self, opcode, payload=b"", **flags):
        self.writer.write(encode(opcode, payload, **flags))
        await asyncio.wait_for(self.writer.drain(), DEADLINE)

    async def send_json(self, value):
        await self.send(TEXT, json.dumps(value).encode())

    async def close(self, code=1000, reason=b""):
        await self.send(CLOSE, struct.pack("!H", code) + reason)

    async def receive(self):
        async with asyncio.timeout(DEADLINE):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            payload = await self.reader.readexactly(size)
        return Frame(first & 0x0F, payload, bool(first & 0x80))

    async def receive_close(self):
        frame = await self.receive()
        while frame.opcode != CLOSE:
            frame = await self.receive()
        return frame.close_code

    async def ended(self):
        """Wait for the end of the TCP connection; return what still came."""
        return await rest_of(self.reader)

    def abort(self):
        self.writer.transport.abort()


class Dialler:
    """Opens connections to one address, and cuts what a test leaves open."""

    def __init__(self, context, host, port):
        self.context, self.host, self.port = context, host, port
        self._writers = []

    async def tcp(self):
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.context)
        self._writers.append(writer)
        return reader, writer

    async def request(self, target, headers=(), method="GET"):
        """Send a request's head; return the connection."""
        reader, writer = await self.tcp()
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        return reader, writer

    async def answer(self, reader):
        async with asyncio.timeout(DEADLINE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        _, status, reason = head[0].split(" ", 2)
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return int(status), reason, headers

    async def websocket(self, target, token=None, headers=()):
        """Upgrade. Raises Refusal for another status than 101."""
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        own = [
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", key),
        ]
        if token is not None:
            own.append((TOKEN_HEADER, token))
        reader, writer = await self.request(target, [*own, *headers])
        status, reason, answered = await self.answer(reader)
        if status != 101:
            raise Refusal(status, reason)
        return RawWebSocket(reader, writer, answered)

    async def refused(self, upgrading):
        """Return how an upgrade is refused."""
        with pytest.raises(Refusal) as raised:
            await upgrading
        return raised.value

    async def status(self, upgrading):
        """Return the status by which an upgrade is refused."""
        return (await self.refused(upgrading)).status

    async def aclose(self):
        for writer in self._writers:
            writer.transport.abort()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
