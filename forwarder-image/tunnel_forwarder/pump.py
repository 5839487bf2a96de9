"""Joins a TCP connection and a WebSocket into one stream, without any I/O of its own.

Each of the two `End`s reads into one `Flow` and writes what the other flow brings:

    TCP ──reads──> from_tcp  ──writes──> link
    TCP <─writes── from_link <──reads─── link

What holds:

* An orderly end of one flow reaches the other end as an orderly end, after all bytes before it, while
  the opposite flow goes on (half-close; azbridge's `StreamPump.cs` does the same).
* A loss at one end aborts the other. It never looks like an orderly end there.
* An end whose writes pile up pauses the other end's reading, and nothing else.
"""

from collections.abc import Callable
from typing import Protocol

Chunk = bytes | memoryview


class Reader(Protocol):
    """Takes what a connection brings."""

    def data(self, chunk: Chunk) -> None:
        """Take bytes."""

    def eof(self) -> None:
        """Take note of an orderly end."""


class Pressure(Protocol):
    """Is told when what is written to a connection piles up."""

    def pause(self) -> None:
        """Write no more for now."""

    def resume(self) -> None:
        """Go on writing."""


class Owner(Protocol):
    """Is told when a connection is no more."""

    def abort(self, reason: str) -> None:
        """End at once."""

    def gone(self, end: "End", error: str | None) -> None:
        """Note that the connection is no more."""


class End(Protocol):
    """What a pump needs of a connection. No method blocks or raises."""

    def start(self, pump: "Pump", *, reads: "Flow", writes: "Flow") -> None:
        """Hand what is read to `reads`, and report pressure on `writes`, from now on."""

    def write(self, chunk: Chunk) -> None:
        """Send bytes; the buffer is the caller's again on return."""

    def write_eof(self) -> None:
        """Say, after all bytes before, that no more will follow."""

    def pause_reading(self) -> None:
        """Leave what arrives to the peer's flow control."""

    def resume_reading(self) -> None:
        """Go on reading."""

    def close(self) -> None:
        """Let go in order: both directions have ended; what is still to be sent is sent."""

    def abort(self, reason: str) -> None:
        """Let go at once, so that the peer sees a loss."""


class Flow:
    """One direction of a stream."""

    __slots__ = ("_pump", "_source", "_target", "bytes", "ended", "target_gone")

    def __init__(self, pump: "Pump", source: End, target: End) -> None:
        self._pump = pump
        self._source = source
        self._target = target
        self.bytes = 0
        self.ended = False
        self.target_gone = False

    def data(self, chunk: Chunk) -> None:
        """Pass bytes on."""
        pump = self._pump
        if pump.outcome is not None or self.ended:
            return
        if self.target_gone:
            pump.abort("the other side no longer reads")
            return
        self.count(len(chunk))
        self._target.write(chunk)

    def count(self, size: int) -> None:
        """Count bytes as passed on; those that went ahead of the pump, too."""
        self.bytes += size
        self._pump.on_activity()

    def eof(self) -> None:
        """Pass an orderly end on."""
        if self.ended or self._pump.outcome is not None:
            return
        self.ended = True
        if not self.target_gone:
            self._target.write_eof()
        self._pump.flow_ended()

    def pause(self) -> None:
        """Stop reading at the source: the target can not keep up."""
        self._source.pause_reading()

    def resume(self) -> None:
        """Read on at the source."""
        self._source.resume_reading()


class Pump:
    """One stream, from the moment that both ends stand until both are gone.

    `outcome` is None while it lives, then why it ended: "completed", or what went wrong.
    """

    COMPLETED = "completed"

    def __init__(
        self, tcp: End, link: End, *, on_activity: Callable[[], None], on_gone: Callable[[], None]
    ) -> None:
        self.on_activity = on_activity
        self.outcome: str | None = None
        self._on_gone = on_gone
        self._tcp = tcp
        self._link = link
        self._standing: set[int] = {id(tcp), id(link)}
        self.from_tcp = Flow(self, tcp, link)
        self.from_link = Flow(self, link, tcp)

    def start(self) -> None:
        """Begin to carry bytes."""
        self._tcp.start(self, reads=self.from_tcp, writes=self.from_link)
        self._link.start(self, reads=self.from_link, writes=self.from_tcp)

    def flow_ended(self) -> None:
        """Let go of both ends in order once both directions have ended."""
        if self.from_tcp.ended and self.from_link.ended and self.outcome is None:
            self.outcome = self.COMPLETED
            self._tcp.close()
            self._link.close()

    def abort(self, reason: str) -> None:
        """End the stream at once, at both ends, unless it has ended."""
        if self.outcome is None:
            self.outcome = reason
            self._tcp.abort(reason)
            self._link.abort(reason)

    def gone(self, end: End, error: str | None) -> None:
        """Note that an end's connection is no more; `error` says why when it was not in order."""
        self._standing.discard(id(end))
        reads, writes = (
            (self.from_tcp, self.from_link) if end is self._tcp else (self.from_link, self.from_tcp)
        )
        if error is None and reads.ended:
            # It said all it had to say and left, as TCP peers do. What the other side still sends has
            # no reader; should it send nothing more, the stream has ended well.
            writes.target_gone = True
        else:
            self.abort(error or "the connection was lost")
        if not self._standing:
            if self.outcome is None:
                self.outcome = self.COMPLETED
            self._on_gone()
