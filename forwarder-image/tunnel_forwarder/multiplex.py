"""One WebSocket that carries many streams: `protocol/mux.py` on a link."""

import asyncio
from collections.abc import Callable

import structlog

from .errors import LinkLostError, Reason, RefusedError
from .link import Link
from .protocol import mux_events
from .protocol.errors import ProtocolError
from .protocol.mux import Multiplexer
from .protocol.mux_events import RefusalCode
from .protocol.preamble import PortRequest
from .pump import Chunk, End, Owner, Pressure, Reader

REASONS: dict[int, Reason] = {
    RefusalCode.UNKNOWN_PORT: Reason.UNKNOWN_PORT,
    RefusalCode.MODE_MISMATCH: Reason.MODE_MISMATCH,
    RefusalCode.TARGET_REFUSED: Reason.TARGET_REFUSED,
    RefusalCode.TOO_MANY_STREAMS: Reason.TOO_MANY_STREAMS,
}

_log: structlog.stdlib.BoundLogger = structlog.get_logger()


class MuxStream:
    """One stream as the far end of a pump.

    What arrives before the pump is kept, at most a window, and is not given back as credit until the
    pump has it. The sender's end may be started before the device has accepted: its bytes then travel
    right behind the request, and a refusal aborts the pump.
    """

    def __init__(self, session: "MuxSession", number: int) -> None:
        self.number = number
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session = session
        self._pump: Owner | None = None
        self._reads: Reader | None = None
        self._writes: Pressure | None = None
        self._inbox: list[memoryview] = []
        self._ended = False
        self._lost: str | None = None
        self._gone = False
        self._paused = False
        self._held = 0

    # The End of a pump.

    def start(self, pump: Owner, *, reads: Reader, writes: Pressure) -> None:
        """Hand what has arrived, and all that will, to the pump."""
        self._pump, self._reads, self._writes = pump, reads, writes
        inbox, self._inbox = self._inbox, []
        for payload in inbox:
            self.take(payload)
        if self._lost is not None:
            self.lose(self._lost)
        elif self._ended:
            reads.eof()
        self._session.flush()  # the credit for what had arrived

    def write(self, chunk: Chunk) -> None:
        """Send bytes as soon as there is credit and it is this stream's turn."""
        strained = self._session.mux.send(self.number, chunk)
        if strained and self._writes is not None:
            self._writes.pause()
        self._session.flush()

    def write_eof(self) -> None:
        """End our direction; the other one goes on."""
        self._session.mux.end(self.number)
        self._session.flush()

    def pause_reading(self) -> None:
        """Give no credit back; the socket is read on, for the other streams' sake."""
        self._paused = True

    def resume_reading(self) -> None:
        """Give back what was held."""
        self._paused = False
        if self._held:
            held, self._held = self._held, 0
            self._session.mux.consumed(self.number, held, late=True)
            self._session.flush()

    def close(self) -> None:
        """Let go once all that was written has been sent."""
        self._session.let_go(self)

    def abort(self, reason: str) -> None:
        """Reset the stream."""
        if not self.accepted.done():
            self.accepted.set_result(None)  # nobody is interested any more
        self._session.mux.reset(self.number, reason)
        self._session.flush()
        self.leave(None)

    # What the session calls.

    def take(self, payload: memoryview) -> None:
        """Pass bytes on, and give them back as credit unless the reader has had enough."""
        if self._reads is None:
            self._inbox.append(payload)
            return
        self._reads.data(payload)
        if self._paused:
            self._held += len(payload)
        else:
            self._session.mux.consumed(self.number, len(payload))

    def end(self) -> None:
        """Pass on that the peer's direction has ended."""
        self._ended = True
        if self._reads is not None:
            self._reads.eof()

    def relieve(self) -> None:
        """Pass on that what was queued has been sent."""
        if self._writes is not None:
            self._writes.resume()

    def lose(self, why: str) -> None:
        """Pass on that the stream is over, and incomplete."""
        self._lost = why
        if not self.accepted.done():
            self.accepted.set_exception(LinkLostError(f"The stream was lost: {why}."))
            self.accepted.exception()  # whoever does not wait for it need not be told
        self.leave(why)

    def leave(self, why: str | None) -> None:
        """Tell the pump, once, that this end is no more."""
        self._session.forget(self)
        if self._pump is not None and not self._gone:
            self._gone = True
            self._pump.gone(self, why)

    def accept(self) -> None:
        """Give the stream that the peer has asked for."""
        self._session.mux.accept(self.number)
        self._session.flush()

    def refuse(self, code: RefusalCode, text: str) -> None:
        """Do not give it."""
        self._session.mux.refuse(self.number, code, text)
        self._session.flush()
        self._session.forget(self)


class MuxSession:
    """A link on which MUX_PORT_NAME has been accepted, and its streams, from `start` on.

    `retired` is set when it takes no more streams, `ended` when the link is no more.
    """

    def __init__(
        self,
        link: Link,
        *,
        max_streams: int,
        on_open: Callable[[MuxStream, PortRequest], None] | None = None,
    ) -> None:
        self.link = link
        self.mux = Multiplexer(opens=on_open is None, max_streams=max_streams)
        self.retired = asyncio.Event()
        self.ended = asyncio.Event()
        self._on_open = on_open
        self._streams: dict[int, MuxStream] = {}
        self._leaving: set[MuxStream] = set()
        self._congested = False
        self._flushing = False

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def start(self) -> None:
        """Take the link over."""
        self.link.watch_path(watch=True)  # the peer always reads, whatever a stream's reader does
        self.link.keep_queue_short()
        self.link.start(self, reads=self, writes=self)

    def open(self, request: PortRequest) -> MuxStream:
        """Ask for a stream; `accepted` tells what comes of it. Raises RefusedError when there is no room."""
        if self.mux.full:
            raise RefusedError(Reason.TOO_MANY_STREAMS, "The socket takes no further streams.")
        stream = MuxStream(self, self.mux.open(request))
        self._streams[stream.number] = stream
        self.flush()
        return stream

    def retire(self) -> None:
        """Take no further streams, and close when the last one is over."""
        self.mux.go_away()
        self.retired.set()
        self.flush()
        self._close_if_done()

    def close(self) -> None:
        """Reset what is open and close the link."""
        self.retired.set()
        for stream in tuple(self._streams.values()):
            self.mux.reset(stream.number, "the forwarder ended")
            stream.lose("the forwarder ended")
        self.flush()
        self.link.close()

    def flush(self) -> None:
        """Send what there is to send, as far as the link keeps up."""
        if self._flushing:
            return
        self._flushing = True
        try:
            while not self._congested and (message := self.mux.take()):
                self.link.write(message)
        finally:
            self._flushing = False
        relieved, self.mux.relieved = self.mux.relieved, []
        for number in relieved:
            if (stream := self._streams.get(number)) is not None:
                stream.relieve()
        for stream in tuple(self._leaving):
            if not self.mux.has(stream.number):
                stream.leave(None)

    def let_go(self, stream: MuxStream) -> None:
        """Have a stream leave once its bytes have been sent; both directions have ended."""
        self._leaving.add(stream)
        self.flush()

    def forget(self, stream: MuxStream) -> None:
        """Keep a stream no longer."""
        self._leaving.discard(stream)
        if self._streams.pop(stream.number, None) is not None:
            self._close_if_done()

    # What the link calls.

    def data(self, chunk: Chunk) -> None:
        """Take bytes from the peer."""
        try:
            events = self.mux.feed(bytes(chunk))
        except ProtocolError as error:
            _log.warning("mux.broken", message=str(error))
            self.abort(str(error))
            return
        for event in events:
            self._take(event)
        self.flush()

    def eof(self) -> None:
        """Take note that the peer has closed: nothing more can come of the streams that are open."""
        self.abort("the other side closed")

    def pause(self) -> None:
        """Note that the link does not keep up."""
        self._congested = True

    def resume(self) -> None:
        """Note that the link has caught up."""
        self._congested = False
        self.flush()

    def abort(self, reason: str) -> None:
        """End the link and all streams."""
        self.retired.set()
        for stream in tuple(self._streams.values()):
            stream.lose(reason)
        self.link.abort(reason)

    def gone(self, end: End, error: str | None) -> None:  # noqa: ARG002 - there is one link
        """Note that the link is no more."""
        self.abort(error or "the connection was lost")
        self.ended.set()

    def _take(self, event: mux_events.Event) -> None:
        match event:
            case mux_events.Opened(number, request) if self._on_open is not None:
                stream = self._streams[number] = MuxStream(self, number)
                self._on_open(stream, request)
            case mux_events.GoingAway():
                self.retired.set()
                self._close_if_done()
            case mux_events.Opened():
                pass
            case _:
                stream_or_none = self._streams.get(event.stream)
                if stream_or_none is not None:
                    _pass_on(event, stream_or_none)

    def _close_if_done(self) -> None:
        if self.mux.going_away and not self._streams and self.mux.opens:
            self.link.close()


def _pass_on(
    event: mux_events.Data
    | mux_events.Ended
    | mux_events.Accepted
    | mux_events.Refused
    | mux_events.WasReset,
    stream: MuxStream,
) -> None:
    match event:
        case mux_events.Data(_, payload):
            stream.take(payload)
        case mux_events.Ended():
            stream.end()
        case mux_events.Accepted() if not stream.accepted.done():
            stream.accepted.set_result(None)
        case mux_events.Refused(_, code, text):
            if not stream.accepted.done():
                reason = REASONS.get(code, Reason.UNSUPPORTED)
                stream.accepted.set_exception(RefusedError(reason, text))
                stream.accepted.exception()  # as above
            stream.lose(text)
        case mux_events.WasReset(_, text):
            stream.lose(f"the other side reset it: {text}")
