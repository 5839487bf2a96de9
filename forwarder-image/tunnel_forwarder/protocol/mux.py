"""Many streams in one WebSocket, `mux/1`, without any I/O.

A sender asks for the port name MUX_PORT_NAME in an ordinary preamble; once that is accepted, both ends
speak frames (`frames.py`). A listener that does not know the name closes, as for any unknown port, and
the sender goes on with one WebSocket for each stream. What holds:

* The sender opens streams, the listener accepts or refuses them. A stream has its number once.
* Each direction of a stream has its own credit: WINDOW bytes at first, given back as the reader takes
  them. So a reader that stops holds back its own stream only, and the socket is always read.
* A window grows on demand, up to MAX_WINDOW, out of a budget that all streams share; what a peer can
  make this end hold is at most `streams * WINDOW + GROWTH_BUDGET`.
* Streams that have something to send take turns, a frame each.
* EOF comes after all bytes before it; RESET overtakes them. The end of the socket resets what is open.

h2 4.4 was measured first, both ends together, without sockets: 3.7 CPU seconds for each GiB in frames of
64 KiB, 17 microseconds for each small frame; this takes 0.1 s and 4 microseconds. There is no yamux for
Python.
"""

from collections import deque
from dataclasses import dataclass, field

from .errors import ProtocolError
from .frames import HEADER_LENGTH, MAX_PAYLOAD, FrameReader, Kind, make_frame
from .mux_events import (
    Accepted,
    Data,
    Ended,
    Event,
    GoingAway,
    Opened,
    RefusalCode,
    Refused,
    WasReset,
)
from .preamble import Mode, PortRequest

FEATURE = "mux/1"
"""How it is called in an open payload, by either side."""

MUX_PORT_NAME = "\0" + FEATURE
"""No port has this name: the settings and the open payload refuse names with NUL. It is no integer,
which azbridge would take for its only forwarder."""

WINDOW = 256 * 1024
MAX_WINDOW = 8 * 1024 * 1024
MAX_CREDIT = 1 << 31
"""How large its windows are is each end's own affair, within reason."""

GROWTH_BUDGET = 16 * 1024 * 1024
SEND_HIGH, SEND_LOW = 64 * 1024, 16 * 1024
"""Bytes of one stream that wait to be sent at which its source is paused, and read on again."""

MAX_CONTROL = 256 * 1024
"""Bytes of frames other than DATA that may wait; a peer that makes us answer and never reads is cut off."""

MAX_ID = 0xFFFFFFFF
_TEXT_LIMIT = 200


@dataclass(slots=True, eq=False)
class _Stream:
    credit: int
    # Incoming: `receivable` is what the peer may still send, `owed` what it is to be given back.
    window: int
    receivable: int
    owed: int = 0
    wants_more: bool = False
    heard_eof: bool = False
    accepted: bool = False
    # Outgoing: frames of DATA that are made but not taken yet, oldest first.
    pending: deque[bytes] = field(default_factory=deque)
    pending_bytes: int = 0
    strained: bool = False
    scheduled: bool = False
    said_blocked: bool = False
    ending: bool = False
    sent_eof: bool = False

    @property
    def all_taken(self) -> bool:
        """Whether the reader has taken all that has come."""
        return self.window - self.receivable <= self.owed


@dataclass(slots=True, eq=False)
class Multiplexer:
    """One end of a socket. `opens` tells the sender's end from the listener's.

    Bytes in by `feed`, bytes out by `take`, which is to be called after anything else. `relieved` holds
    the streams whose sources may be read on again; whoever calls `take` empties it. `window` is the same
    at both ends: tests have a small one.
    """

    opens: bool
    max_streams: int = 1000
    window: int = WINDOW
    relieved: list[int] = field(default_factory=list)
    going_away: bool = False
    _reader: FrameReader = field(default_factory=FrameReader)
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _last_id: int = 0
    _control: deque[bytes] = field(default_factory=deque)
    _control_bytes: int = 0
    _ready: deque[int] = field(default_factory=deque)
    _budget: int = GROWTH_BUDGET

    @property
    def streams(self) -> int:
        """How many streams are open in any direction."""
        return len(self._streams)

    def has(self, stream: int) -> bool:
        """Tell whether a stream is open in any direction."""
        return stream in self._streams

    @property
    def full(self) -> bool:
        """Whether no further stream can be opened."""
        return self.going_away or len(self._streams) >= self.max_streams or self._last_id >= MAX_ID

    # What this end does.

    def open(self, request: PortRequest) -> int:
        """Ask for a stream and return its number. Raises ProtocolError for a name that can not be."""
        _, name = request.to_messages()
        self._last_id += 1
        self._streams[self._last_id] = self._new_stream()
        self._say(Kind.OPEN, self._last_id, bytes((request.mode,)) + name)
        return self._last_id

    def accept(self, stream: int) -> None:
        """Give a stream that the peer has asked for, unless it is over by now."""
        state = self._streams.get(stream)
        if state is not None and not state.accepted:
            state.accepted = True
            self._say(Kind.ACCEPT, stream)

    def refuse(self, stream: int, code: RefusalCode, text: str) -> None:
        """Do not give it."""
        if self._forget(stream):
            self._say(Kind.REFUSE, stream, bytes((code,)) + _cut(text))

    def send(self, stream: int, data: bytes | memoryview) -> bool:
        """Queue bytes; True asks for a pause until the stream is in `relieved`."""
        state = self._streams.get(stream)
        if state is None or state.ending:
            return False
        for at in range(0, len(data), MAX_PAYLOAD):
            state.pending.append(make_frame(Kind.DATA, stream, data[at : at + MAX_PAYLOAD]))
        state.pending_bytes += len(data)
        self._schedule(stream, state)
        state.strained = state.strained or state.pending_bytes >= SEND_HIGH
        return state.strained

    def end(self, stream: int) -> None:
        """End this end's direction, after all that was queued."""
        state = self._streams.get(stream)
        if state is not None and not state.ending:
            state.ending = True
            self._schedule(stream, state)

    def reset(self, stream: int, text: str) -> None:
        """Give a stream up, and what was queued for it."""
        if self._forget(stream):
            self._say(Kind.RESET, stream, _cut(text))

    def consumed(self, stream: int, count: int, *, late: bool = False) -> None:
        """Let the peer send as many bytes more as a reader has taken.

        `late` says that the reader has let them wait: a larger window would not speed it up.
        """
        state = self._streams.get(stream)
        if state is None or state.heard_eof:
            return
        state.owed += count
        state.wants_more = state.wants_more and not late
        if state.wants_more and state.all_taken:
            self._grow(state)
        if state.owed * 2 >= state.window or (state.all_taken and state.receivable <= 0):
            self._grant(stream, state)

    def go_away(self) -> None:
        """Take no further streams on this socket."""
        if not self.going_away:
            self.going_away = True
            self._say(Kind.GOAWAY, 0)

    def take(self, limit: int = MAX_PAYLOAD // 2) -> bytes:
        """Return what is to be sent next: frames until there are `limit` bytes; b"" when there is nothing."""
        parts, size = [], 0
        while self._control and size < limit:
            parts.append(self._control.popleft())
            self._control_bytes -= len(parts[-1])
            size += len(parts[-1])
        while self._ready and size < limit:
            frame = self._next_of(self._ready.popleft())
            parts.append(frame)
            size += len(frame)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # What the peer does.

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes and return what they mean.

        Raises ProtocolError when the peer does not keep to the protocol: the socket is then of no use.
        """
        events: list[Event] = []
        for kind, stream, payload in self._reader.feed(data):
            event = self._understand(kind, stream, payload)
            if event is not None:
                events.append(event)
        if self._control_bytes > MAX_CONTROL:
            raise ProtocolError("The peer asks for answers, and does not read them.")
        return events

    def _understand(self, kind: int, stream: int, payload: memoryview) -> Event | None:
        if kind == Kind.GOAWAY:
            self.going_away = True
            return GoingAway()
        if kind == Kind.OPEN:
            return self._opened(stream, payload)
        return self._understand_of(kind, stream, payload)

    def _understand_of(self, kind: int, stream: int, payload: memoryview) -> Event | None:
        state = self._streams.get(stream)
        if state is None:
            if stream > self._last_id:
                raise ProtocolError(f"Stream {stream} has never been opened.")
            return None  # over, and the peer did not know yet
        if kind == Kind.DATA:
            return self._received(stream, state, payload)
        if kind == Kind.CREDIT:
            state.credit += int.from_bytes(payload, "big")
            state.said_blocked = False
            if state.credit > MAX_CREDIT:
                raise ProtocolError(f"Stream {stream} was given too much credit.")
            self._schedule(stream, state)
            return None
        if kind == Kind.BLOCKED:
            state.wants_more = True
            self.consumed(stream, 0)
            return None
        return self._turned(kind, stream, state, payload)

    def _turned(self, kind: int, stream: int, state: _Stream, payload: memoryview) -> Event | None:
        match kind:
            case Kind.EOF:
                self._may_speak(stream, state)
                state.heard_eof = True
                self._forget_if_over(stream, state)
                return Ended(stream)
            case Kind.RESET:
                self._forget(stream)
                return WasReset(stream, _text(payload))
            case Kind.ACCEPT if self.opens and not state.accepted:
                state.accepted = True
                return Accepted(stream)
            case Kind.REFUSE if self.opens and not state.accepted:
                self._forget(stream)
                return Refused(stream, payload[0], _text(payload[1:]))
            case _:
                raise ProtocolError(f"{Kind(kind).name} is out of place on stream {stream}.")

    def _opened(self, stream: int, payload: memoryview) -> Opened | None:
        if self.opens or stream <= self._last_id:
            raise ProtocolError(f"Stream {stream} can not be opened.")
        self._last_id = stream
        try:
            request = PortRequest(str(payload[1:], "utf-8"), Mode(payload[0]))
        except ValueError:
            raise ProtocolError(f"What stream {stream} asks for can not be read.") from None
        self._streams[stream] = self._new_stream()
        if len(self._streams) > self.max_streams or self.going_away:
            self.refuse(stream, RefusalCode.TOO_MANY_STREAMS, "All streams are taken.")
            return None
        return Opened(stream, request)

    def _received(self, stream: int, state: _Stream, payload: memoryview) -> Data:
        self._may_speak(stream, state)
        state.receivable -= len(payload)
        if state.receivable < 0:
            raise ProtocolError(f"Stream {stream} was sent more than its credit.")
        return Data(stream, payload)

    def _may_speak(self, stream: int, state: _Stream) -> None:
        if state.heard_eof or (self.opens and not state.accepted):
            raise ProtocolError(f"Stream {stream} is not open in this direction.")

    # The rest.

    def _new_stream(self) -> _Stream:
        return _Stream(credit=self.window, window=self.window, receivable=self.window)

    def _say(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        frame = make_frame(kind, stream, payload)
        self._control.append(frame)
        self._control_bytes += len(frame)

    def _schedule(self, stream: int, state: _Stream) -> None:
        if state.scheduled:
            return
        if state.pending:
            if state.credit <= 0:
                if not state.said_blocked:
                    state.said_blocked = True
                    self._say(Kind.BLOCKED, stream)
                return
        elif not state.ending or state.sent_eof:
            return
        state.scheduled = True
        self._ready.append(stream)

    def _next_of(self, stream: int) -> bytes:
        """Return the next frame of a stream whose turn it is, and queue it again if there is more."""
        state = self._streams.get(stream)
        if state is None:
            return b""
        state.scheduled = False
        if not state.pending:
            state.sent_eof = True
            self._forget_if_over(stream, state)
            return make_frame(Kind.EOF, stream)
        frame = state.pending.popleft()
        size = len(frame) - HEADER_LENGTH
        if size > state.credit:
            payload = memoryview(frame)[HEADER_LENGTH:]
            state.pending.appendleft(make_frame(Kind.DATA, stream, payload[state.credit :]))
            size = state.credit
            frame = make_frame(Kind.DATA, stream, payload[:size])
        state.credit -= size
        state.pending_bytes -= size
        if state.strained and state.pending_bytes <= SEND_LOW:
            state.strained = False
            self.relieved.append(stream)
        self._schedule(stream, state)
        return frame

    def _grant(self, stream: int, state: _Stream) -> None:
        state.receivable += state.owed
        self._say(Kind.CREDIT, stream, state.owed.to_bytes(4, "big"))
        state.owed = 0

    def _grow(self, state: _Stream) -> None:
        """Enlarge the window of a peer that is held up by it alone, fourfold: each step costs a round trip."""
        more = min(3 * state.window, MAX_WINDOW - state.window, self._budget)
        self._budget -= more
        state.wants_more = False
        state.window += more
        state.owed += more

    def _forget_if_over(self, stream: int, state: _Stream) -> None:
        if state.sent_eof and state.heard_eof:
            self._forget(stream)

    def _forget(self, stream: int) -> bool:
        state = self._streams.pop(stream, None)
        if state is not None:
            self._budget += state.window - self.window
        return state is not None


def _cut(text: str) -> bytes:
    return text.encode(errors="replace")[:_TEXT_LIMIT]


def _text(payload: memoryview) -> str:
    return str(payload, "utf-8", "replace")
