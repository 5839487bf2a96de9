"""One relayed HTTP request and its response, and how the response is put together from frames."""

import asyncio
import secrets
from collections.abc import Callable
from urllib.parse import quote

from picows import WSFrame, WSMsgType

from tunnel_forwarder.protocol.errors import ProtocolError

from .errors import Refused
from .http_message import MAX_CONTROL_TOTAL, ResponseHead, parse_response
from .model import HybridConnection, Listener, Socket

ASSUMED_LISTENER_LOST_STATUS = 502
"""What a sender gets whose listener is lost, or breaks the protocol, before it has answered."""

_BUFFERED = 64 * 1024


class Exchange:
    """A request from the moment that it is understood until its response has been passed on."""

    def __init__(self, hybrid_connection: HybridConnection) -> None:
        self.hybrid_connection = hybrid_connection
        self.id = f"{secrets.token_hex(8)}_G{secrets.token_hex(16)}"
        loop = asyncio.get_running_loop()
        self.joined: asyncio.Future[None] = loop.create_future()
        """Done when the listener has opened the rendezvous."""

        self.response: asyncio.Future[ResponseHead] = loop.create_future()
        self.body = asyncio.StreamReader(limit=_BUFFERED)
        self.channel: Listener | None = None
        """The control channel that the request went out on, where it may be answered too."""

        self.rendezvous: Socket | None = None
        self._complete = False

    def address(self, host: str) -> str:
        """Return the address of the rendezvous for a listener that knows us by `host`."""
        path = quote(self.hybrid_connection.name, safe="/")
        return f"wss://{host}/$hc/{path}?sb-hc-action=request&sb-hc-id={self.id}"

    def refuse(self, status: int, sentence: str) -> None:
        """Fail: the sender gets this status, or its connection is cut when the response has begun."""
        refusal = Refused(status, sentence)
        for future in (self.joined, self.response):
            if not future.done():
                future.set_exception(refusal)
                # Whoever waits is told; when nobody does, that is no error.
                future.exception()
        if not self._complete:
            self.body.set_exception(refusal)

    def lose(self) -> None:
        """Fail because the listener is gone; a response that is here as a whole is not affected."""
        self.refuse(ASSUMED_LISTENER_LOST_STATUS, "The listener is gone.")

    def begin(self, head: ResponseHead) -> None:
        """Take the response's head; it must be the first."""
        self.response.set_result(head)
        if not head.has_body:
            self.feed(b"", end=True)

    def feed(self, data: bytes, *, end: bool) -> None:
        """Take a part of the response's body; after a failure nothing happens."""
        if self._complete or self.body.exception() is not None:
            return
        self.body.feed_data(data)
        if end:
            self._complete = True
            self.body.feed_eof()


class ResponseReader:
    """Reads messages and the bodies that follow them from the frames of one socket."""

    def __init__(
        self,
        find: Callable[[str], Exchange | None],
        *,
        max_message: int,
        max_body: int | None = MAX_CONTROL_TOTAL,
    ) -> None:
        self._find = find
        self._max_message, self._max_body = max_message, max_body
        self._message = bytearray()
        self._in_message = False
        self._in_body = False
        self._exchange: Exchange | None = None
        self._size = 0

    def take(self, frame: WSFrame) -> bytes | None:
        """Take a data frame; returns a whole message that is no response. Raises ProtocolError."""
        is_text = frame.msg_type == WSMsgType.TEXT
        if self._in_body and not is_text and not self._in_message:
            self._feed(frame.get_payload_as_bytes(), end=frame.fin)
            return None
        if len(self._message) + frame.payload_size > self._max_message:
            raise TooLargeError("The message is too large.")
        self._message += frame.get_payload_as_memoryview()
        self._in_message = not frame.fin
        if not frame.fin:
            return None
        message = bytes(self._message)
        self._message.clear()
        head = parse_response(message)
        if head is None:
            return message
        self._begin(head)
        return None

    def _begin(self, head: ResponseHead) -> None:
        """Take a response's head; one that nobody waits for is read and dropped."""
        if self._in_body:
            raise ProtocolError("A response came before the end of another's body.")
        exchange = self._find(head.request_id)
        if exchange is not None and not exchange.response.done():
            exchange.begin(head)
            self._exchange = exchange
        self._in_body, self._size = head.has_body, 0

    def _feed(self, data: bytes, *, end: bool) -> None:
        self._size += len(data)
        if self._max_body is not None and self._size > self._max_body:
            raise TooLargeError("A response's body of more than 64 kB needs a rendezvous.")
        if self._exchange is not None:
            self._exchange.feed(data, end=end)
        if end:
            self._in_body, self._exchange = False, None


class TooLargeError(ProtocolError):
    """A message or a body is larger than its socket allows."""
