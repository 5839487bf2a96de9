"""One TCP connection from its first byte until it is decided what becomes of it.

A plain HTTP request goes to aiohttp's protocol, with the whole connection. As for WebSockets: picows answers an upgrade as soon as it has read it, but a sender's upgrade hangs until a listener has
accepted. So this protocol reads the request's head, holds the connection, and puts picows' protocol in its
own place when the answer is 101.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from picows import (
    WSAutoPingStrategy,
    WSListener,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from .connections import Connections
from .errors import Refused
from .head import MAX_HEAD, MAX_HTTP_HEAD, Head, is_relayed_http, parse_head

ASSUMED_MAX_FRAME = 16 * 1024 * 1024
"""Frames are passed on whole, so their size is bounded; Azure states no limit. Beyond: 1009."""

ASSUMED_TOO_MANY_CONNECTIONS_STATUS = 503
"""For the 5001st connection of a namespace; the limit is documented, the answer is not."""

# Bytes that a sender may send before it is answered; a client that keeps to RFC 6455 sends none.
_MAX_EARLY = 64 * 1024
# It grows with the frames that come; picows allows no smaller one.
_READ_BUFFER = 2 * 1024
_WRITE_HIGH, _WRITE_LOW = 256 * 1024, 64 * 1024
_UPGRADE = b"GET /$hc/"
_END_OF_HEAD = b"\r\n\r\n"

# picows logs each connection, and each malformed frame as an error; ours are the peers' own faults.
_PICOWS_LOGGER = logging.getLogger("picows.relay")


class Front(asyncio.Protocol):
    """Reads one request and hands itself to `decide`, which calls `refuse` or `upgrade`, now or later."""

    def __init__(
        self,
        decide: Callable[["Front", Head], None],
        connections: Connections,
        *,
        make_http: Callable[[], asyncio.Protocol],
        deadline: float,
    ) -> None:
        self._decide = decide
        self._make_http = make_http
        self._connections = connections
        self._deadline = deadline
        self._buffer = bytearray()
        self._answered = False
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head: Head | None = None
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        """Called once when the client goes away before it is answered."""

    @property
    def transport(self) -> asyncio.Transport:
        """The connection. There is one as soon as `decide` is called."""
        if self._transport is None:
            raise RuntimeError("The connection is not made yet.")
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock for the request's head."""
        # Neither aiofastnet's nor uvloop's transports derive from asyncio's class.
        self._transport = transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=_WRITE_HIGH, low=_WRITE_LOW)
        if not self._connections.add(transport):
            self.refuse(
                ASSUMED_TOO_MANY_CONNECTIONS_STATUS, "The namespace has too many connections."
            )
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._deadline, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Collect the head; what follows it waits, bounded, for the answer."""
        if self._answered:
            return
        self._buffer += data
        if self._head is not None:
            if len(self._buffer) > _MAX_EARLY:
                self.transport.pause_reading()
            return
        end = self._buffer.find(_END_OF_HEAD)
        limit = MAX_HEAD if self._buffer.startswith(_UPGRADE) else MAX_HTTP_HEAD
        if end > limit or (end < 0 and len(self._buffer) > limit):
            self.refuse(431, "The request's head is too large.")
            return
        if end >= 0:
            self._stop_timer()
            self._read_head(end)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell whoever waits with us."""
        self.lost = True
        self._stop_timer()
        self._connections.discard(self.transport)
        if not self._answered and self.on_lost is not None:
            self._answered = True
            self.on_lost()
        self.on_lost = None

    def refuse(self, status: int, sentence: str) -> None:
        """Answer with a status and close; nothing happens when there is an answer already."""
        if self._answered:
            return
        self._answered = True
        self._stop_timer()
        reason = sentence.encode("ascii", "replace").decode().replace("\r", " ").replace("\n", " ")
        self.transport.write(
            f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        self.transport.close()

    def upgrade(self, listener: WSListener, protocol: str | None = None) -> Callable[[], None]:
        """Answer 101; the socket's frames go to `listener`. Call what is returned to let them begin.

        In two steps, since joined sockets must both be open before a frame of either is passed on.
        """
        if self._answered or self._head is None:
            raise RuntimeError("The request is answered already, or not read yet.")
        self._answered = True
        self.on_lost = None
        transport, early = self.transport, bytes(self._buffer)
        self._buffer.clear()
        websocket = _websocket_protocol(listener, protocol)
        transport.set_protocol(websocket)
        websocket.connection_made(transport)
        _feed(websocket, _minimal_head(self._head))

        def begin() -> None:
            # In this order: what is fed may pause the reading again, for a peer that does not keep up.
            transport.resume_reading()
            _feed(websocket, early)

        return begin

    def _read_head(self, end: int) -> None:
        try:
            head = parse_head(bytes(self._buffer[:end]))
            if is_relayed_http(head):
                self._hand_over()
                return
            self._head = head
            del self._buffer[: end + len(_END_OF_HEAD)]
            self._decide(self, head)
        except Refused as refusal:
            self.refuse(refusal.status, refusal.sentence)

    def _hand_over(self) -> None:
        """Let an HTTP server's protocol have the connection, from its first byte on."""
        self._answered = True
        transport, data = self.transport, bytes(self._buffer)
        self._buffer.clear()
        protocol = self._make_http()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def _too_slow(self) -> None:
        self.refuse(408, "The request's head did not come in time.")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _minimal_head(head: Head) -> bytes:
    """Return as much of a request as picows needs for its answer; it was checked by `head`."""
    key = head.get("Sec-WebSocket-Key")
    return (
        "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode("ascii")


def _feed(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    """Give bytes to a protocol as its transport would."""
    view = memoryview(data)
    while view:
        buffer = memoryview(protocol.get_buffer(-1)).cast("B")
        size = min(len(buffer), len(view))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]


def _websocket_protocol(listener: WSListener, protocol: str | None) -> asyncio.BufferedProtocol:
    """Make picows' protocol for a server's side of one connection, as its `ws_create_server` does."""

    def respond(_request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        headers = {} if protocol is None else {"Sec-WebSocket-Protocol": protocol}
        response = WSUpgradeResponse.create_101_response(headers)
        return WSUpgradeResponseWithListener(response, listener)

    made: asyncio.BufferedProtocol = WSProtocol(
        None,
        None,
        False,  # the server's side
        respond,
        _PICOWS_LOGGER,
        True,  # disconnect_on_exception
        None,  # websocket_handshake_timeout: the request is here already
        False,  # enable_auto_ping
        20,
        20,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        False,  # enable_auto_pong: `socket` answers, within bounds
        ASSUMED_MAX_FRAME,
        None,  # extra_headers
        _READ_BUFFER,
    )
    return made
