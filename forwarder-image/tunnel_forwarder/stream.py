"""Streams, from the moment that both ends of the path stand: used by both forwarders."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from . import tcp, udp
from .allocator import Tidier
from .early import EarlyBytes
from .errors import Reason, RefusedError
from .protocol import preamble
from .pump import End, Pump
from .session import Session


class Near(End, Protocol):
    """The end that is on this machine; it knows its pump before it is started."""

    pump: Pump | None


@dataclass(frozen=True, slots=True)
class Carrier:
    """Carries streams and counts them in `session`; each leaves two lines in the log, the audit trail."""

    session: Session
    _buffer: tcp.ReadBuffer = field(default_factory=tcp.ReadBuffer)
    _tidier: Tidier = field(default_factory=Tidier)

    async def carry(
        self,
        sock: socket.socket,
        far: End,
        log: structlog.stdlib.BoundLogger,
        *,
        accepted: asyncio.Future[None] | None = None,
        early: EarlyBytes | None = None,
    ) -> None:
        """Carry bytes between a connected socket and the far end until both are gone."""

        async def attach() -> None:
            if early is not None:
                early.raise_failure()
                if early.sent and end.pump is not None:
                    end.pump.from_tcp.count(early.sent)
            await tcp.attach(sock, end)

        end = tcp.TcpEnd(self._buffer)
        await self.join(end, far, log, attach=attach, accepted=accepted)

    async def carry_datagrams(
        self, sock: socket.socket, far: End, log: structlog.stdlib.BoundLogger
    ) -> None:
        """Carry datagrams between a connected UDP socket and the far end until that is over."""
        transports: list[asyncio.DatagramTransport] = []

        def send(payload: bytes) -> None:
            for transport in transports:
                transport.sendto(payload)

        async def attach() -> None:
            transports.append(await udp.attach(sock, end))
            await end.begin()

        end = udp.DatagramEnd(send)
        try:
            await self.join(end, far, log, attach=attach)
        finally:
            for transport in transports:
                transport.close()

    async def join(
        self,
        near: Near,
        far: End,
        log: structlog.stdlib.BoundLogger,
        *,
        attach: Callable[[], Awaitable[None]],
        accepted: asyncio.Future[None] | None = None,
    ) -> None:
        """Carry bytes between two ends until both are gone; `attach` starts the pump.

        With `accepted` the far end may yet refuse, and the stream counts from its word on. Raises
        RefusedError or LinkLostError then, with the near end reset.
        """
        gone = asyncio.Event()
        pump = Pump(near, far, on_activity=self.session.touch, on_gone=gone.set)
        near.pump = pump
        started, counted = self.session.clock.monotonic(), False
        try:
            await attach()
            if accepted is not None:
                await _until(accepted)
            counted = True
            self.session.opened(pump)
            log.info("stream.opened")
            await gone.wait()
        except OSError as error:  # the TCP peer left before it became a transport
            pump.abort(f"TCP connection lost: {error}")
        finally:
            pump.abort("the forwarder ended")  # nothing, unless this was cancelled
            self._tidier.soon()
            if counted:
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


async def _until(accepted: asyncio.Future[None]) -> None:
    try:
        async with asyncio.timeout(preamble.REPLY_SECONDS):
            await asyncio.shield(accepted)
    except TimeoutError:
        text = f"The device did not answer within {preamble.REPLY_SECONDS:g} s."
        raise RefusedError(Reason.NO_REPLY, text) from None


@contextlib.contextmanager
def isolated(log: structlog.stdlib.BoundLogger) -> Iterator[None]:
    """Hold one stream's work: a bug in it is told to the log, and ends no other stream."""
    try:
        yield
    except Exception:
        log.exception("stream.bug")
