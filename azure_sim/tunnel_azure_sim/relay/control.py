"""A listener's control channel: it is told of senders, answers small HTTP requests, renews its token."""

import asyncio
from collections.abc import Callable

import structlog
from picows import WSFrame, WSMsgType, WSProtocolError, WSTransport

from tunnel_forwarder.protocol.control import RenewToken, parse
from tunnel_forwarder.protocol.errors import ProtocolError

from ..config import Clock
from .connections import Connections
from .errors import Refused
from .exchange import Exchange, ResponseReader, TooLargeError
from .socket import ServiceSocket

ASSUMED_MALFORMED_CODE = 1007
"""How a control channel ends on which something arrives that is not a JSON message."""

MAX_MESSAGE = 128 * 1024
"""Bytes of one message; documented are 64 kB for a response's body and 32 kB for its headers."""

_POLICY_VIOLATION = 1008
_TOO_BIG = 1009
_OVERLOADED = 1011
_MAX_UNSENT = 1024 * 1024

_log = structlog.get_logger(__name__)


class ControlChannel(ServiceSocket):
    """One listener. It ends with 1008 when its token expires; its streams live on."""

    def __init__(
        self,
        connections: Connections,
        *,
        close_deadline: float,
        host: str,
        clock: Clock,
    ) -> None:
        super().__init__(connections, close_deadline=close_deadline)
        self._clock = clock
        self._host = host
        self._reader = ResponseReader(self._answered, max_message=MAX_MESSAGE)
        self._expiry: asyncio.TimerHandle | None = None
        self.renew: Callable[[str], float] | None = None
        """Checks a new token and returns its expiry, or raises Refused."""

        self.answered: Callable[[str], Exchange | None] | None = None
        """Finds the relayed HTTP request of this id that this listener may answer."""

        self.ended: Callable[[], None] | None = None

    @property
    def host(self) -> str:
        """The `host[:port]` that the listener dialled, at which it finds its senders too."""
        return self._host

    def expire_at(self, moment: float) -> None:
        """End the channel at that time, and not at an earlier one set before."""
        if self._expiry is not None:
            self._expiry.cancel()
        delay = max(0.0, moment - self._clock())
        self._expiry = asyncio.get_running_loop().call_later(delay, self._on_expiry)

    def offer(self, message: str, body: bytes | None = None) -> bool:
        """Send a message, and a request's body if there is one; False, and the channel ends, when the listener reads nothing."""
        if self.frozen:
            return True  # As far as the service knows, the listener is there.
        if self.close_sent or self.lost:
            return False
        if self.transport.underlying_transport.get_write_buffer_size() > _MAX_UNSENT:
            self.shut(_OVERLOADED, "The listener does not read its control channel.")
            return False
        self.transport.send(WSMsgType.TEXT, message.encode())
        if body is not None:
            self.transport.send(WSMsgType.BINARY, body)
        return True

    def shut(self, code: int, reason: str) -> None:
        """End the channel; from now on no sender is offered to this listener."""
        self._leave()
        self.send_close(code, reason.encode())
        self.finish()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
        """Take a frame of the listener."""
        match frame.msg_type:
            case WSMsgType.PING:
                self.answer_ping(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self.close_received = True
                self.shut(int(frame.get_close_code()), "")  # type: ignore[call-overload]
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION if not self.finishing:
                self._collect(frame)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget the listener."""
        super().on_ws_disconnected(transport)
        self._leave()

    def _collect(self, frame: WSFrame) -> None:
        try:
            message = self._reader.take(frame)
        except TooLargeError as error:
            raise WSProtocolError(_TOO_BIG, str(error)) from None
        except ProtocolError as error:
            self.shut(ASSUMED_MALFORMED_CODE, str(error))
            return
        if message is not None:
            self._on_message(message)

    def _answered(self, request_id: str) -> Exchange | None:
        return None if self.answered is None else self.answered(request_id)

    def _on_message(self, text: bytes) -> None:
        try:
            message = parse(text)
        except ProtocolError as error:
            self.shut(ASSUMED_MALFORMED_CODE, str(error))
            return
        if isinstance(message, RenewToken) and self.renew is not None:
            try:
                self.expire_at(self.renew(message.token.reveal()))
            except Refused as refusal:
                _log.info("relay.renewal_refused", reason=refusal.sentence)
                self.shut(_POLICY_VIOLATION, refusal.sentence)

    def _on_expiry(self) -> None:
        self.shut(_POLICY_VIOLATION, "The token has expired.")

    def _leave(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self.ended is not None:
            ended, self.ended = self.ended, None
            ended()
