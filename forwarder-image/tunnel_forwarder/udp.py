"""Datagrams as the near end of a stream: one stream for each source, let go of when idle."""

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, cast

from .protocol import datagram
from .protocol.datagram import DatagramReader
from .pump import Chunk, Flow, Pump
from .tcp import address_name

MAX_WAITING = 64 * 1024
"""Bytes of datagrams that are kept while the stream is set up; what comes above is lost, as UDP may."""

Address = tuple[Any, ...]


class DatagramEnd:
    """The datagrams of one source. What can not be passed on at once is dropped, as UDP may."""

    def __init__(
        self, send: Callable[[bytes], None], *, idle: float = datagram.IDLE_SECONDS
    ) -> None:
        self.pump: Pump | None = None
        self.dropped = 0
        self._send = send
        self._idle = idle
        self._reads: Flow | None = None
        self._reader = DatagramReader()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0

    def received(self, payload: bytes) -> None:
        """Pass a datagram on."""
        if self._reads is None:
            if self._waiting_bytes + len(payload) <= MAX_WAITING:
                self._waiting.append(payload)
                self._waiting_bytes += len(payload)
                return
        elif not self._paused:
            self._touch()
            self._reads.data(datagram.frame(payload))
            return
        self.dropped += 1

    async def begin(self) -> None:
        """Start the pump; there is nothing to wait for."""
        if self.pump is not None:
            self.pump.start()

    # The End of a pump.

    def start(self, pump: Pump, *, reads: Flow, writes: Flow) -> None:  # noqa: ARG002 - UDP never presses
        """Hand what has arrived, and all that will, to the pump."""
        self.pump, self._reads = pump, reads
        self._touch()
        self._timer = asyncio.get_running_loop().call_later(self._idle, self._look)
        waiting, self._waiting = self._waiting, []
        for payload in waiting:
            self.received(payload)

    def write(self, chunk: Chunk) -> None:
        """Send the datagrams that are complete."""
        self._touch()
        for payload in self._reader.feed(chunk):
            self._send(payload)

    def write_eof(self) -> None:
        """End as the peer has: datagrams have no half-close."""
        if self._reads is not None:
            self._reads.eof()

    def pause_reading(self) -> None:
        """Drop what comes."""
        self._paused = True

    def resume_reading(self) -> None:
        """Pass on what comes."""
        self._paused = False

    def close(self) -> None:
        """Let go."""
        if self._timer is not None:
            self._timer.cancel()
        if self.pump is not None:
            self.pump.gone(self, None)

    def abort(self, reason: str) -> None:  # noqa: ARG002 - UDP carries no reasons
        """Let go."""
        self.close()

    def _touch(self) -> None:
        self._last = asyncio.get_running_loop().time()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._last + self._idle - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        elif self._reads is not None:
            self._reads.eof()


class ConnectedUdp(asyncio.DatagramProtocol):
    """The listener's side: one connected socket for each stream."""

    def __init__(self, end: DatagramEnd) -> None:
        self._end = end

    def datagram_received(self, data: bytes, addr: Address) -> None:  # noqa: ARG002 - connected
        """Pass a datagram on."""
        self._end.received(data)

    def error_received(self, exc: Exception) -> None:
        """Go on: that nobody listens there now (ICMP) is no more than a lost datagram."""


class UdpPort(asyncio.DatagramProtocol):
    """The sender's side: one socket, a `DatagramEnd` for each source.

    `on_source` is given each new one; it returns False when there is no room.
    """

    def __init__(self, on_source: Callable[[DatagramEnd, str], bool], *, idle: float) -> None:
        self._on_source = on_source
        self._idle = idle
        self._ends: dict[Address, DatagramEnd] = {}
        self._transport: asyncio.DatagramTransport | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over."""
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Pass a datagram on; the first one of a source begins a stream."""
        end = self._ends.get(addr)
        if end is None:
            end = DatagramEnd(lambda payload: self._answer(payload, addr), idle=self._idle)
            if not self._on_source(end, address_name(cast("tuple[str, int]", addr))):
                return
            self._ends[addr] = end
        end.received(data)

    def forget(self, end: DatagramEnd) -> None:
        """Note that a source's stream is over; its next datagram begins another."""
        for address, known in tuple(self._ends.items()):
            if known is end:
                del self._ends[address]

    def _answer(self, payload: bytes, address: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(payload, address)


async def attach(sock: socket.socket, end: DatagramEnd) -> asyncio.DatagramTransport:
    """Read a connected socket into an end, and return the transport, to be closed.

    Empty datagrams are not sent: neither event loop passes them to the system.
    """
    loop = asyncio.get_running_loop()
    transport: asyncio.DatagramTransport
    try:
        transport, _ = await loop.create_datagram_endpoint(lambda: ConnectedUdp(end), sock=sock)
    except BaseException:
        sock.close()
        raise
    return transport


def bind(port: int) -> socket.socket:
    """Return a socket on all interfaces: IPv6 and IPv4, or IPv4 where that is all."""
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("", port))
    sock.setblocking(False)
    return sock
