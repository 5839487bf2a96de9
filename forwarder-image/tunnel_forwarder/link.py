"""One rendezvoused WebSocket: bytes to and from the other end of the bridge."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from picows import WSCloseCode, WSFrame, WSMsgType, WSTransport

from .errors import LinkLostError, Reason
from .protocol import closing
from .pump import Chunk, Owner, Pressure, Reader
from .transport import ABORT_SECONDS, CLOSE_SECONDS, WebSocket

READ_AHEAD = 64 * 1024
"""Bytes that are kept for a reader that has not come yet; the rest is left to the peer's flow control."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the peer's direction ended: with a Close frame, or without (code 1006)."""

    code: int
    reason: str = ""

    @property
    def orderly(self) -> bool:
        """Whether all that the peer had to say has arrived: Close 1000, or one without a code."""
        return self.code in (WSCloseCode.OK, closing.NO_CODE)

    def __str__(self) -> str:
        if self.code == closing.ABRUPT:
            return "the connection to the relay was lost"
        return f"the other side closed with {self.code}" + (
            f": {self.reason}" if self.reason else ""
        )


class Link(WebSocket):
    """A WebSocket as a stream of bytes: read by `read` first, by a pump from `start` on.

    Frame types and message boundaries mean nothing (`WebSocketStream.cs` in azure-relay-dotnet); an empty
    frame carries nothing and is skipped, as it may end a fragmented message. None is ever sent, because
    azbridge takes one for the end.
    """

    def __init__(self, tracking_id: str = "") -> None:
        super().__init__()
        self.tracking_id = tracking_id
        self._inbox = bytearray()
        self._arrival = asyncio.Event()
        self.ending: Ending | None = None
        self._pump: Owner | None = None
        self._reads: Reader | None = None
        self._writes: Pressure | None = None
        self._on_ended: list[Callable[[], None]] = []

    # What picows calls.

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass on what a frame holds."""
        kind = frame.msg_type
        if kind in (WSMsgType.BINARY, WSMsgType.CONTINUATION, WSMsgType.TEXT):
            if not frame.payload_size:
                return
            if self._reads is not None:
                self._reads.data(frame.get_payload_as_bytes())
                return
            self._inbox += frame.get_payload_as_memoryview()
            self._arrival.set()
            if len(self._inbox) >= READ_AHEAD:
                transport.underlying_transport.pause_reading()
        elif kind == WSMsgType.CLOSE:
            self._end(Ending(*closing.parse(frame.get_payload_as_bytes())))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Pass on that the connection is no more."""
        if self.ending is None:
            self._end(Ending(closing.ABRUPT))
        super().on_ws_disconnected(transport)
        if self._pump is not None:
            self._pump.gone(self, None)

    def pause_writing(self) -> None:
        """Pass the pressure on."""
        super().pause_writing()
        if self._writes is not None:
            self._writes.pause()

    def resume_writing(self) -> None:
        """Pass on that the pressure is over."""
        super().resume_writing()
        if self._writes is not None:
            self._writes.resume()

    def _end(self, ending: Ending) -> None:
        self.ending = ending
        self._arrival.set()
        callbacks, self._on_ended = self._on_ended, []
        for callback in callbacks:
            callback()
        if self._reads is not None and self._pump is not None:
            self._deliver_ending(ending, self._pump, self._reads)

    @staticmethod
    def _deliver_ending(ending: Ending, pump: Owner, reads: Reader) -> None:
        if ending.orderly:
            reads.eof()
        else:
            pump.abort(str(ending))

    # Before a pump takes over.

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the peer has ended its direction in whatever way."""
        if self.ending is not None:
            callback()
        else:
            self._on_ended.append(callback)

    async def read(self) -> bytes:
        """Return the next bytes, or b"" once the peer has ended in order. Raises LinkLostError."""
        while not self._inbox:
            if self.ending is not None:
                if self.ending.orderly:
                    return b""
                raise _loss(self.ending)
            self._arrival.clear()
            await self._arrival.wait()
        data = bytes(self._inbox)
        self._inbox.clear()
        self.resume_reading()
        return data

    def unread(self, data: bytes) -> None:
        """Put bytes back in front of what is read next."""
        self._inbox[:0] = data

    # The End of a pump.

    def start(self, pump: Owner, *, reads: Reader, writes: Pressure) -> None:
        """Hand what has arrived, and all that will, to the pump."""
        self._pump, self._reads, self._writes = pump, reads, writes
        self.resume_reading()
        if self._congested:
            writes.pause()
        if self._inbox:
            reads.data(bytes(self._inbox))
            self._inbox.clear()
        if self.ending is not None:
            self._deliver_ending(self.ending, pump, reads)
        if not self.connected:
            pump.gone(self, None)

    def write(self, chunk: Chunk) -> None:
        """Send bytes as one binary message; picows copies them."""
        if self._transport is not None and chunk:
            self._transport.send(WSMsgType.BINARY, chunk)

    def write_eof(self) -> None:
        """Send a Close frame and go on reading, as azbridge's CloseOutputAsync does."""
        self.send_close()

    def pause_reading(self) -> None:
        """Leave what arrives to the relay's flow control."""
        if self._transport is not None and self.connected:
            self._transport.underlying_transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._transport is not None and self.connected:
            self._transport.underlying_transport.resume_reading()

    def close(self) -> None:
        """Close in order."""
        self.send_close()
        self.disconnect(within=CLOSE_SECONDS)

    def abort(self, reason: str) -> None:
        """Close so that the peer sees a loss, whatever the relay makes of it: a code, then a hang-up."""
        self.send_close(WSCloseCode.INTERNAL_ERROR, reason)
        self.disconnect(within=ABORT_SECONDS)


def _loss(ending: Ending) -> LinkLostError:
    text = str(ending)
    reason = Reason.LINK_LOST
    if ending.reason == closing.TARGET_REFUSED:
        reason = Reason.TARGET_REFUSED
    elif ending.code == closing.TOKEN_EXPIRED:
        reason = Reason.EXPIRED
    return LinkLostError(f"{text[0].upper()}{text[1:]}.", reason)
