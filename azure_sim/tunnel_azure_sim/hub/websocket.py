"""MQTT over WebSocket, at the path that Azure serves it at, on the port of the REST API.

Documentation "Communicate with an IoT hub using MQTT": `wss://{hub}/$iothub/websocket`, port 443. MQTT 3.1.1,
section 6: sub-protocol `mqtt`, binary frames alone, packets cut into frames at will.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from ..web import Handler
from .mqtt_codec import MAX_PACKET

PATH = "/$iothub/websocket"

ASSUMED_NO_SUBPROTOCOL_STATUS = 400
"""For an upgrade that does not offer `mqtt`, and for what is no upgrade."""

ASSUMED_NO_CERTIFICATE = True
"""No client certificate is asked for here: devices sign in by password."""

_SUBPROTOCOL = "mqtt"
_MAX_UNSENT = 256 * 1024
_MAX_SENT = 64 * 1024
"""Bytes of one frame of ours."""


def make_websocket_handler(make: Callable[[], asyncio.Protocol], *, close: float) -> Handler:
    """Return the handler that gives each WebSocket to a protocol of its own."""

    async def handle(request: web.Request) -> web.StreamResponse:
        offered = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        socket = web.WebSocketResponse(
            protocols=(_SUBPROTOCOL,), max_msg_size=MAX_PACKET, compress=False, timeout=close
        )
        if _SUBPROTOCOL not in map(str.strip, offered) or not socket.can_prepare(request).ok:
            return web.Response(
                status=ASSUMED_NO_SUBPROTOCOL_STATUS, text="Only WebSockets of MQTT are served."
            )
        await socket.prepare(request)
        await _run(socket, request, make())
        return socket

    return handle


async def _run(
    socket: web.WebSocketResponse, request: web.Request, protocol: asyncio.Protocol
) -> None:
    """Carry bytes both ways until either side ends."""
    transport = WebSocketTransport(socket, request, protocol)
    protocol.connection_made(transport)
    sending = asyncio.create_task(transport.send_all())
    try:
        while (data := await transport.receive()) is not None:
            protocol.data_received(data)
    finally:
        transport.close()
        try:
            # Bounded: closing cuts a peer that does not read.
            await asyncio.gather(sending, return_exceptions=True)
        finally:
            sending.cancel()
            protocol.connection_lost(None)


class WebSocketTransport(asyncio.Transport):
    """What an MQTT session writes to; `send_all` carries it out, in order."""

    def __init__(
        self, socket: web.WebSocketResponse, request: web.Request, protocol: asyncio.Protocol
    ) -> None:
        super().__init__()
        self._socket, self._request, self._protocol = socket, request, protocol
        self._unsent = bytearray()
        self._closing = False
        self._paused = False
        self._more = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()

    async def receive(self) -> bytes | None:
        """Return the next binary frame's content; None when the connection has ended or must."""
        await self._reading.wait()
        if self._closing:
            return None
        message = await self._socket.receive()
        return message.data if message.type is WSMsgType.BINARY else None

    async def send_all(self) -> None:
        """Send until the end, then close."""
        try:
            while not (self._closing and not self._unsent):
                if not self._unsent:
                    self._more.clear()
                    await self._more.wait()
                    continue
                data = bytes(self._unsent[:_MAX_SENT])
                del self._unsent[:_MAX_SENT]
                await self._socket.send_bytes(data)
                self._resume()
            await self._socket.close()
        except (ConnectionError, RuntimeError):
            self.abort()  # The peer is gone, or closed while this was sent.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection; a certificate never is."""
        return self._request.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes, for frames of any size; too many make the protocol pause."""
        if self._closing:
            return
        self._unsent += data
        self._more.set()
        if len(self._unsent) > _MAX_UNSENT and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """End the connection when everything is sent."""
        self._closing = True
        self._more.set()
        self._reading.set()

    def abort(self) -> None:
        """Cut the connection."""
        self._unsent.clear()
        self.close()
        if self._request.transport is not None:
            self._request.transport.abort()

    def is_closing(self) -> bool:
        """Whether the connection is being ended."""
        return self._closing

    def pause_reading(self) -> None:
        """Take no more from the peer."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Read on."""
        self._reading.set()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait."""
        return len(self._unsent)

    def _resume(self) -> None:
        if self._paused and len(self._unsent) <= _MAX_UNSENT // 4:
            self._paused = False
            self._protocol.resume_writing()
