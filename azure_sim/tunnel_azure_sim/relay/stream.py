"""The hot path: a sender's socket and a listener's, joined frame by frame.

"All further activity on this WebSocket is relayed from and to the sender. This happens without any
intervention or interpretation by the service" (documentation "Hybrid Connections protocol").
"""

from collections.abc import Callable

from picows import WSFrame, WSMsgType, WSProtocolError, WSTransport

from ..faults import Faults, Plane
from .connections import Connections
from .slow import HeldFrame, SlowPath
from .socket import ServiceSocket

SENDER_GONE = 1001
"""What a listener's socket gets when the sender is lost without a Close (documented)."""

ASSUMED_LISTENER_GONE = 1011
"""What a sender's socket gets when the listener is lost without a Close.

Documented is 1000 for "the listener shut down the socket"; for a loss that would read as a clean end.
"""

_PROTOCOL_ERROR = 1002
_NEVER_SENT = (0, 1006)  # RFC 6455, section 7.4; picows refuses the others.
# Bound once: looking an enum's member up costs as much as passing a small frame on.
_PING, _PONG, _CLOSE = WSMsgType.PING, WSMsgType.PONG, WSMsgType.CLOSE


class Side(ServiceSocket):
    """One of the two sockets of a stream; `gone_code` is what its peer is told when it is lost."""

    peer: "Side"

    def __init__(
        self,
        connections: Connections,
        *,
        close_deadline: float,
        gone_code: int,
        one_way_close: bool,
    ) -> None:
        super().__init__(connections, close_deadline=close_deadline)
        self._gone_code = gone_code
        self._one_way_close = one_way_close
        self._slow: SlowPath | None = None
        self.ended: Callable[[], None] | None = None

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:  # noqa: ARG002 - picows' signature
        """Pass a frame on, as it is."""
        if self._slow is None:
            self._take(frame)
        else:
            self._slow.hold(frame)

    def _take(self, frame: WSFrame | HeldFrame) -> None:
        kind = frame.msg_type
        if kind == _PING:
            self.answer_ping(frame.get_payload_as_bytes())
        elif kind == _CLOSE:
            self._on_close(frame)
        elif kind != _PONG and not self.close_received:
            if frame.rsv1 or frame.rsv2 or frame.rsv3:
                raise WSProtocolError(_PROTOCOL_ERROR, "No extension was agreed on.")
            self.peer.pass_on(frame)

    def pass_on(self, frame: WSFrame | HeldFrame) -> None:
        """Send the other side's frame out of this one."""
        if not self.close_sent and not self.lost:
            self.transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)

    def pause_writing(self) -> None:
        """This side does not keep up: read no more from the other until it does."""
        super().pause_writing()
        if not self.peer.finishing and not self.peer.lost:
            self.peer.transport.underlying_transport.pause_reading()

    def resume_writing(self) -> None:
        """This side keeps up again."""
        super().resume_writing()
        self.peer.read_on()

    def read_on(self) -> None:
        """Read this side, unless the other does not keep up, or a test wants it read slowly or not at all."""
        if self.lost or self.frozen:
            return
        transport = self.transport.underlying_transport
        if self.peer.writing_paused or (self._slow is not None and self._slow.holds_reading):
            transport.pause_reading()
        else:
            transport.resume_reading()

    @property
    def is_slow(self) -> bool:
        """Whether what comes in is held first, be it for no time."""
        return self._slow is not None

    def slow_down(self, delay: Callable[[], float], rate: int | None) -> None:
        """Take what comes in from now on later, or read it slowly; None for a rate ends that."""
        if self._slow is None:
            self._slow = SlowPath(self._take_late, delay=delay, reading=self.read_on)
        self._slow.rate = rate

    def _take_late(self, frame: HeldFrame) -> None:
        try:
            self._take(frame)
        except WSProtocolError:
            self.cut()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell the other side, unless both were through."""
        super().on_ws_disconnected(transport)
        if self._slow is None:
            self._tell_peer()
        else:
            self._slow.then(self._tell_peer)

    def _tell_peer(self) -> None:
        if self.peer.lost:
            if self.ended is not None:
                self.ended()
            return
        if self.peer.close_sent:
            # It had this side's Close and was still speaking: an end without a Close tells it of the loss.
            self.peer.hang_up()
        else:
            self.peer.send_close(self._gone_code, b"The other side is gone.")
            self.peer.finish()

    def _on_close(self, frame: WSFrame | HeldFrame) -> None:
        code = int(frame.get_close_code())  # type: ignore[arg-type] # picows' stub hides the int
        if frame.payload_size and code in _NEVER_SENT:
            raise WSProtocolError(_PROTOCOL_ERROR, "The Close frame has a code that is never sent.")
        self.close_received = True
        self.peer.send_close(code, frame.get_close_message())
        if not self._one_way_close:
            self.send_close(code)
            self.peer.finish()
            self.finish()
        if self.peer.close_received or self.peer.lost:
            self.peer.finish()
            self.finish()
        elif self.finishing:
            self.finish()


class Stream:
    """Two joined sides."""

    def __init__(
        self,
        connections: Connections,
        *,
        close_deadline: float,
        one_way_close: bool,
        ended: Callable[["Stream"], None],
    ) -> None:
        def make_side(gone_code: int) -> Side:
            return Side(
                connections,
                close_deadline=close_deadline,
                gone_code=gone_code,
                one_way_close=one_way_close,
            )

        self.sender, self.listener = make_side(SENDER_GONE), make_side(ASSUMED_LISTENER_GONE)
        self.sender.peer, self.listener.peer = self.listener, self.sender
        for side in (self.sender, self.listener):
            side.ended = lambda: ended(self)

    def slow_down(self, faults: Faults, hybrid_connection: str) -> None:
        """Take the faults into account that are in force for streams."""
        rate = faults.reading_rate(hybrid_connection)
        for side in (self.sender, self.listener):
            if rate is not None or side.is_slow or faults.has_latency(Plane.RELAY_DATA):
                side.slow_down(lambda: faults.delay(Plane.RELAY_DATA), rate)

    def cut(self) -> None:
        """Lose both connections at once."""
        for side in (self.sender, self.listener):
            side.cut()

    def freeze(self) -> None:
        """Leave both connections half open."""
        for side in (self.sender, self.listener):
            side.freeze()

    def shut(self, code: int, reason: str) -> None:
        """End both sides from the service."""
        for side in (self.sender, self.listener):
            side.send_close(code, reason.encode())
            side.finish()
