"""What every WebSocket of the service does alike: answer Pings within bounds, close, and be cut in the end."""

import asyncio

from picows import WSListener, WSMsgType, WSTransport

from .connections import Connections

NO_CODE = 0
"""Stands for a Close frame without a code."""


class ServiceSocket(WSListener):
    """One upgraded connection.

    `close_sent` and `close_received` are the two directions' ends: a Close frame ends the direction that
    it is sent in, and nothing else.
    """

    def __init__(self, connections: Connections, *, close_deadline: float) -> None:
        super().__init__()
        self._connections = connections
        self._close_deadline = close_deadline
        self._transport: WSTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered_ping: bytes | None = None
        self.writing_paused = False
        self.close_sent = False
        self.close_received = False
        self.lost = False
        self.frozen = False

    @property
    def transport(self) -> WSTransport:
        """The open socket."""
        if self._transport is None:
            raise RuntimeError("The socket is not open.")
        return self._transport

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Let go of what belonged to the connection.

        Its buffers above all: sockets that were joined know each other, and such a cycle of a few small
        objects with a megabyte behind them is long of no interest to the garbage collector.
        """
        self.lost = True
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._connections.discard(transport.underlying_transport)

    def pause_writing(self) -> None:
        """The peer does not keep up."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """The peer keeps up again."""
        self.writing_paused = False
        if self._unanswered_ping is not None:
            payload, self._unanswered_ping = self._unanswered_ping, None
            self.answer_ping(payload)

    def answer_ping(self, payload: bytes) -> None:
        """Send a Pong; while the peer does not read, only the newest Ping is kept for it.

        RFC 6455 section 5.5.3 allows to answer the most recent one alone. Otherwise a peer that sends
        Pings and reads nothing would fill the memory.
        """
        if self.writing_paused:
            self._unanswered_ping = payload
        elif not self.close_sent and not self.lost:
            self.transport.send_pong(payload)

    def send_close(self, code: int, reason: bytes | None = None) -> None:
        """Send a Close frame; nothing happens when one was sent, or nobody is there."""
        if self.close_sent or self.lost:
            return
        self.close_sent = True
        if code == NO_CODE:
            # picows would write the code 0, which no Close frame may carry: this one has no code.
            self.transport.send(WSMsgType.CLOSE, None)
        else:
            self.transport.send_close(code, reason)  # type: ignore[arg-type]

    def finish(self) -> None:
        """End the connection: at once when the peer's Close is here, else when it comes, or is overdue."""
        if self.close_received:
            self.hang_up()
        elif not self.lost and not self.frozen:
            self._start_timer()
            # Its reading may be paused for a peer that is gone; the answer comes by this way.
            self.transport.underlying_transport.resume_reading()

    def hang_up(self) -> None:
        """End the connection as soon as the peer has what was sent to it, or is overdue."""
        if not self.lost and not self.frozen:
            self._start_timer()
            self.transport.disconnect(graceful=True)

    def cut(self) -> None:
        """End the connection without a word."""
        if not self.lost:
            self.transport.disconnect(graceful=False)

    def freeze(self) -> None:
        """Leave the connection half open: nothing more is read or sent, and its end is not told."""
        # Sending a Close would end the sending; saying that it was sent ends it without one.
        self.frozen = self.close_sent = True
        if not self.lost:
            self.transport.underlying_transport.pause_reading()

    @property
    def finishing(self) -> bool:
        """Whether the connection is being ended."""
        return self._timer is not None

    def _start_timer(self) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._close_deadline, self.cut)
