"""The socket that a listener opens for one sender's requests that are too large for its control channel."""

import asyncio
from collections.abc import AsyncIterator, Callable

from picows import WSFrame, WSMsgType, WSProtocolError, WSTransport

from tunnel_forwarder.protocol.errors import ProtocolError

from .connections import Connections
from .errors import Refused
from .exchange import ASSUMED_LISTENER_LOST_STATUS, Exchange, ResponseReader, TooLargeError
from .http_message import MAX_CONTROL_TOTAL
from .socket import ServiceSocket

SENDER_GONE = 1001
"""What the listener's socket gets when the sender's connection ends (documented)."""

_OK = 1000
_TOO_BIG = 1009
_MALFORMED = 1007


class HttpRendezvous(ServiceSocket):
    """Lives as long as the sender's connection, and takes that with it when the listener ends it.

    "If the listener chooses to drop the rendezvous WebSocket from its side, the service will also drop
    the connection to the sender" (documentation "Hybrid Connections protocol").
    """

    def __init__(
        self,
        connections: Connections,
        *,
        close_deadline: float,
        host: str,
        ended: Callable[[], None],
    ) -> None:
        super().__init__(connections, close_deadline=close_deadline)
        self.host = host
        """The `host[:port]` by which the listener reached us."""

        self._ended = ended
        self._reader = ResponseReader(self._find, max_message=MAX_CONTROL_TOTAL, max_body=None)
        self._exchange: Exchange | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def is_open(self) -> bool:
        """Whether requests may be sent on it."""
        return not (self.close_sent or self.close_received or self.lost)

    def attach(self, exchange: Exchange) -> None:
        """Take responses for this exchange from now on."""
        self._exchange = exchange
        exchange.rendezvous = self
        if self._transport is not None:
            exchange.body.set_transport(self._transport.underlying_transport)

    async def send_request(self, message: str, body: AsyncIterator[bytes] | None) -> None:
        """Send a request in full, as fast as the listener takes it. Raises Refused when it is gone."""
        self._send(WSMsgType.TEXT, message.encode(), fin=True)
        if body is None:
            return
        kind, held = WSMsgType.BINARY, b""
        async for chunk in body:
            # One chunk is held back, since the last one carries FIN.
            if held:
                self._send(kind, held, fin=False)
                kind = WSMsgType.CONTINUATION
                await self._writable.wait()
            held = chunk
        self._send(kind, held, fin=True)

    def shut(self, code: int, reason: str) -> None:
        """End it from the service's side."""
        self.send_close(code, reason.encode())
        self.finish()

    def pause_writing(self) -> None:
        """The listener does not keep up."""
        super().pause_writing()
        self._writable.clear()

    def resume_writing(self) -> None:
        """The listener keeps up again."""
        super().resume_writing()
        self._writable.set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Let the response's body be read no faster than its sender takes it."""
        super().on_ws_connected(transport)
        if self._exchange is not None:
            self._exchange.body.set_transport(transport.underlying_transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
        """Take a frame of the listener."""
        match frame.msg_type:
            case WSMsgType.PING:
                self.answer_ping(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self.close_received = True
                self.send_close(_OK)
                self.finish()
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION if self.is_open:
                self._take(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The sender's connection ends with it."""
        super().on_ws_disconnected(transport)
        self._writable.set()
        if self._exchange is not None:
            self._exchange.lose()
        self._ended()

    def _take(self, frame: WSFrame) -> None:
        try:
            self._reader.take(frame)
        except TooLargeError as error:
            raise WSProtocolError(_TOO_BIG, str(error)) from None
        except ProtocolError as error:
            self.shut(_MALFORMED, str(error))

    def _find(self, request_id: str) -> Exchange | None:
        exchange = self._exchange
        return exchange if exchange is not None and exchange.id == request_id else None

    def _send(self, kind: WSMsgType, data: bytes, *, fin: bool) -> None:
        if not self.is_open:
            raise Refused(ASSUMED_LISTENER_LOST_STATUS, "The listener has gone.")
        self.transport.send(kind, data, fin)
