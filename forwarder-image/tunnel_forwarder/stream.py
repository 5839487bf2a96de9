"""Streams, from the moment that both ends of the path stand: used by both forwarders."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from . import tcp
from .link import Link
from .pump import Pump
from .session import Session


@dataclass(frozen=True, slots=True)
class Carrier:
    """Carries streams and counts them in `session`; each leaves two lines in the log, the audit trail."""

    session: Session
    _buffer: tcp.ReadBuffer = field(default_factory=tcp.ReadBuffer)

    async def carry(
        self, sock: socket.socket, link: Link, log: structlog.stdlib.BoundLogger
    ) -> None:
        """Carry bytes between a TCP connection and a link until both are gone."""
        gone = asyncio.Event()
        end = tcp.TcpEnd(self._buffer)
        pump = Pump(end, link, on_activity=self.session.touch, on_gone=gone.set)
        end.pump = pump
        started = self.session.clock.monotonic()
        self.session.opened(pump)
        log.info("stream.opened")
        try:
            await tcp.attach(sock, end)
            await gone.wait()
        except OSError as error:  # the TCP peer left before it became a transport
            pump.abort(f"TCP connection lost: {error}")
        finally:
            pump.abort("the forwarder ended")  # nothing, unless this was cancelled
            self.session.closed(pump)
            log.info(
                "stream.closed",
                reason=pump.outcome,
                bytes_in=self.session.into_device(pump).bytes,
                bytes_out=self.session.out_of_device(pump).bytes,
                seconds=round(self.session.clock.monotonic() - started, 3),
            )

    def abort_all(self, reason: str) -> None:
        """Reset every stream."""
        for pump in tuple(self.session.open):
            pump.abort(reason)


@contextlib.contextmanager
def isolated(log: structlog.stdlib.BoundLogger) -> Iterator[None]:
    """Hold one stream's work: a bug in it is told to the log, and ends no other stream."""
    try:
        yield
    except Exception:
        log.exception("stream.bug")
