"""The TCP end of a stream, and how TCP connections are come by.

Sockets are accepted and connected bare. They become transports only when the rest of the path stands:
until then no byte of the peer is read, so a failed set-up loses nothing and can be tried again. (uvloop
starts to read after `connection_made` whether or not that has paused it.)
"""

import asyncio
import contextlib
import errno
import socket
import struct
from typing import cast

from .pump import Chunk, Flow, Pump

READ_SIZE = 64 * 1024 - 64
"""Bytes for each read, and so at most for each WebSocket message. azbridge reads 64 KiB; with the headers of
a frame (RFC 6455: 14 bytes) and of the shared socket (8) that is a little more than four TLS records."""

WRITE_HIGH, WRITE_LOW = 128 * 1024, 32 * 1024
"""Bytes waiting to be sent at which the link is paused, and read on again."""

BACKLOG = 128


class ReadBuffer:
    """One buffer for all TCP ends of an event loop.

    Both event loops fill a protocol's buffer and hand it over before they turn to the next connection,
    and whoever takes the bytes copies them, so that idle streams cost no buffer.
    """

    __slots__ = ("view",)

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_SIZE))


class TcpEnd(asyncio.BufferedProtocol):
    """A connected TCP socket as one end of a pump. It starts the pump once it is a transport."""

    def __init__(self, buffer: ReadBuffer) -> None:
        self.pump: Pump | None = None
        self._view = buffer.view
        self._transport: asyncio.Transport | None = None
        self._reads: Flow | None = None
        self._writes: Flow | None = None
        self._eof = False

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection over."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)
        if self.pump is not None:
            self.pump.start()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's signature
        """Lend the buffer for one read."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        if self._reads is not None:
            self._reads.data(self._view[:nbytes])

    def eof_received(self) -> bool:
        """Pass the orderly end on, and keep the other direction."""
        # uvloop reports the end of a stream again when reading is resumed after it.
        if not self._eof and self._reads is not None:
            self._eof = True
            self._reads.eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on that the connection is no more."""
        if self.pump is not None:
            self.pump.gone(self, None if exc is None else f"TCP connection lost: {exc}")

    def pause_writing(self) -> None:
        """Pass the pressure on."""
        if self._writes is not None:
            self._writes.pause()

    def resume_writing(self) -> None:
        """Pass on that the pressure is over."""
        if self._writes is not None:
            self._writes.resume()

    # The End of a pump.

    def start(self, pump: Pump, *, reads: Flow, writes: Flow) -> None:
        """Hand what is read to the pump."""
        self.pump, self._reads, self._writes = pump, reads, writes

    def write(self, chunk: Chunk) -> None:
        """Send bytes."""
        if self._transport is not None:
            self._transport.write(chunk)

    def write_eof(self) -> None:
        """Shut our direction down; reading goes on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def pause_reading(self) -> None:
        """Leave what arrives to TCP's flow control."""
        if self._transport is not None and not self._transport.is_closing() and not self._eof:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self._transport is not None and not self._transport.is_closing() and not self._eof:
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what waits to be sent, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, reason: str) -> None:  # noqa: ARG002 - TCP carries no reasons
        """Reset the connection."""
        if self._transport is not None and not self._transport.is_closing():
            set_reset(self._transport.get_extra_info("socket"))
        if self._transport is not None:
            self._transport.abort()


def set_reset(sock: socket.socket) -> None:
    """Make the coming close a reset (socket(7), SO_LINGER of 0 s)."""
    with contextlib.suppress(OSError):  # the peer has reset it before us
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def reset(sock: socket.socket) -> None:
    """Close a bare socket so that its peer sees a reset, not an empty answer."""
    set_reset(sock)
    sock.close()


async def attach(sock: socket.socket, end: TcpEnd) -> None:
    """Make a connected socket a transport, which starts the end's pump."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    loop = asyncio.get_running_loop()
    try:
        # Despite its name it takes any connected socket (asyncio documentation).
        await loop.connect_accepted_socket(lambda: end, sock)
    except BaseException:
        reset(sock)
        raise


def listen(port: int) -> socket.socket:
    """Return a socket that listens on all interfaces: IPv6 and IPv4, or IPv4 where that is all."""
    try:
        sock = socket.create_server(
            ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
        )
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        sock = socket.create_server(("", port), backlog=BACKLOG)
    sock.setblocking(False)
    return sock


async def connect(
    host: str,
    port: int,
    *,
    within: float,
    kind: socket.SocketKind = socket.SOCK_STREAM,
) -> socket.socket:
    """Return a connected socket, from the first of the host's addresses that answers.

    Each address gets its share of the time, so that a dead one leaves some for the others. Raises OSError
    (TimeoutError among them).
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(within):
        try:
            addresses = await loop.getaddrinfo(host, port, type=kind)
        except UnicodeError:
            raise OSError(errno.EINVAL, f"{host!r} is no host name") from None
        failure: OSError = OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
        for family, _, proto, _, address in addresses:
            sock = socket.socket(family, kind, proto)
            try:
                sock.setblocking(False)
                async with asyncio.timeout(within / len(addresses)):
                    await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure


def peer_name(sock: socket.socket) -> str:
    """Return the peer's address and port for a log; an IPv4 peer of an IPv6 socket in its own form."""
    try:
        name = sock.getpeername()
    except OSError:
        return "unknown"
    if not isinstance(name, tuple):
        return f"unix:{name}"
    return address_name(name)


def address_name(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """Return an address of IPv4 or IPv6 for a log."""
    host, port = address[:2]
    host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
