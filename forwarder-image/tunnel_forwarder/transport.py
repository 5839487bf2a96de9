"""WebSockets: how they are dialled, and how one is read and written.

picows was chosen for what a byte costs in it: it hands frames over by callback and leaves flow control
and the closing handshake to us. The latter is what half-close needs: other libraries answer a Close by
themselves and then refuse to send.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

import picows
from picows import WSCloseCode, WSListener, WSTransport
from python_socks import ProxyError

from . import tcp
from .errors import DialError, Reason
from .protocol.secret import Secret
from .protocol.urls import TOKEN_HEADER
from .proxy import proxy_for

KEEP_ALIVE_SECONDS = 30.0
"""Between unsolicited Pongs. A listener without keep-alive was cut off after about four minutes
(Azure/azure-relay issue 33), and a Ping from the client is said to end a control channel
(Azure/azure-relay-dotnet issue 103); a Pong asks for nothing."""

DEAD_PATH_SECONDS = 60.0
"""Without an acknowledgement of what was sent (the Pongs, at least), the path counts as dead."""

MAX_FRAME = 1 << 20
"""Bytes. azbridge sends at most 64 KiB; picows keeps a whole frame in memory."""

WRITE_HIGH, WRITE_LOW = 128 * 1024, 32 * 1024
"""Bytes waiting to be sent at which the other side of a stream is paused, and read on again."""

CLOSE_SECONDS = 30.0
ABORT_SECONDS = 2.0


class WebSocket(WSListener):
    """What all our WebSockets have in common. Subclasses say what they do with frames."""

    def __init__(self) -> None:
        super().__init__()
        self._transport: WSTransport | None = None
        self._socket: socket.socket | None = None
        self._congested = False
        self._closing: asyncio.TimerHandle | None = None
        self._on_disconnected: list[Callable[[], None]] = []

    @property
    def connected(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._transport is not None and not self._transport.is_disconnected

    def when_disconnected(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, when the connection is no more."""
        self._on_disconnected.append(callback)

    async def connect_to(self, url: picows.WSParsedURL, *, within: float) -> socket.socket:
        """Return a TCP connection for `url`, and remember it, to be able to abandon it at any time."""
        self._socket = await tcp.connect(url.host, url.port, within=within)
        return self._socket

    def abandon(self) -> None:
        """Drop the connection, be it still on its way; the transport sees its peer hang up, and closes."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self._socket.shutdown(socket.SHUT_RDWR)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Take the connection over (called by picows)."""
        self._transport = transport
        transport.underlying_transport.set_write_buffer_limits(WRITE_HIGH, WRITE_LOW)

    def on_ws_disconnected(self, transport: WSTransport) -> None:  # noqa: ARG002 - picows's signature
        """Tell who waits for it that the connection is no more (called by picows)."""
        if self._closing is not None:
            self._closing.cancel()
        callbacks, self._on_disconnected = self._on_disconnected, []
        for callback in callbacks:
            callback()

    def pause_writing(self) -> None:
        """Note that the peer does not keep up (called by picows)."""
        self._congested = True

    def resume_writing(self) -> None:
        """Note that the peer has caught up (called by picows)."""
        self._congested = False

    def keep_alive(self) -> None:
        """Send something that asks for no answer, unless what waits to be sent does it already."""
        if self._transport is not None and self.connected and not self._congested:
            self._transport.send_pong()

    def watch_path(self, *, watch: bool) -> None:
        """Have the system end the connection when its path is dead (Linux; elsewhere no change).

        Not for a connection that carries a stream: a peer that stops reading on purpose would be taken
        for dead, as the option counts unanswered window probes too (tcp(7), TCP_USER_TIMEOUT).
        """
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if self._transport is None or not self.connected or option is None:
            return
        sock = self._transport.underlying_transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, option, int(DEAD_PATH_SECONDS * 1000) if watch else 0)

    def keep_queue_short(self) -> None:
        """Have the system take few bytes ahead of the network (Linux; elsewhere no change).

        On a socket that streams share, what is queued there delays every one of them (tcp(7),
        TCP_NOTSENT_LOWAT).
        """
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if self._transport is not None and self.connected and option is not None:
            sock = self._transport.underlying_transport.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, option, WRITE_HIGH)

    def send_close(self, code: WSCloseCode = WSCloseCode.OK, reason: str = "") -> None:
        """Send a Close frame, once; reading goes on."""
        if self._transport is not None and self.connected:
            self._transport.send_close(code, reason.encode()[:123].decode(errors="ignore"))

    def disconnect(self, *, within: float) -> None:
        """Send what waits to be sent, then disconnect; give up on the former after `within` seconds."""
        if self._transport is None or not self.connected or self._closing is not None:
            return
        loop = asyncio.get_running_loop()
        self._closing = loop.call_later(within, self._transport.disconnect, False)
        self._transport.disconnect()


W = TypeVar("W", bound=WebSocket)


@dataclass(slots=True, eq=False)
class Dialer:
    """Opens WebSockets, and keeps them alive while they stand.

    `proxy` says by which proxy a host and port are reached; a name is looked up at each dial.
    """

    tls: ssl.SSLContext
    timeout: float = 20.0
    proxy: Callable[[str, int], str | None] = proxy_for
    _open: set[WebSocket] = field(default_factory=set)

    async def dial(self, url: str, websocket: W, *, token: Secret | None = None) -> W:
        """Open `url` for `websocket` and return it. Raises DialError.

        The relay holds a sender's upgrade back until the listener has accepted, so the time limit is
        that of a whole rendezvous.
        """
        try:
            async with asyncio.timeout(self.timeout):
                listener = await self._upgrade(url, websocket, token)
        except TimeoutError:
            # picows goes on with a handshake that nobody awaits any more.
            websocket.abandon()
            sentence = f"The relay did not answer within {self.timeout:g} s."
            raise DialError(Reason.DIAL_TIMEOUT, sentence) from None
        except asyncio.CancelledError:
            websocket.abandon()
            raise
        except picows.WSInvalidStatusError as error:
            raise _status_error(error) from None
        except picows.WSInvalidURL:  # whose text would quote the address
            raise DialError(Reason.UNREACHABLE, "The address is no WebSocket URL.") from None
        except ProxyError as error:
            sentence = f"The proxy gives no way to the relay: {error}."
            raise DialError(Reason.PROXY_REFUSED, sentence) from None
        except (picows.WSError, OSError) as error:
            sentence = f"The relay can not be reached: {error}."
            raise DialError(Reason.UNREACHABLE, sentence) from error
        if listener is None:  # how picows reports that the peer hung up during the handshake
            raise DialError(Reason.UNREACHABLE, "The relay hung up during the handshake.")
        self._open.add(websocket)
        websocket.when_disconnected(lambda: self._open.discard(websocket))
        return websocket

    async def _upgrade(self, url: str, websocket: W, token: Secret | None) -> WSListener | None:
        parts = urlsplit(url)
        proxy = self.proxy(parts.hostname or "", parts.port or 443)
        _, listener = await picows.ws_connect(
            lambda _request, _response: websocket,
            url,
            ssl_context=self.tls,
            websocket_handshake_timeout=None,  # ours goes from the start to the end
            socket_factory=lambda address: websocket.connect_to(address, within=self.timeout),
            extra_headers={TOKEN_HEADER: token.reveal()} if token is not None else None,
            proxy=proxy,
            max_redirects=0,  # a redirect would carry the token to wherever it points
            max_frame_size=MAX_FRAME,
        )
        return listener

    async def keep_alive(self, *, every: float = KEEP_ALIVE_SECONDS) -> None:
        """Keep every open WebSocket alive until cancelled."""
        while True:
            await asyncio.sleep(every)
            for websocket in tuple(self._open):
                websocket.keep_alive()


def tls_context(extra_authorities: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities, and these (PEM) besides."""
    context = ssl.create_default_context()
    if extra_authorities is not None:
        context.load_verify_locations(cadata=extra_authorities)
    return context


def _status_error(error: picows.WSInvalidStatusError) -> DialError:
    status = int(error.response.status) if error.response is not None else 0
    match status:
        case 404:
            reason, text = Reason.NO_LISTENER, "knows no such hybrid connection, or nobody listens"
        case 401 | 403:
            reason, text = Reason.UNAUTHORIZED, "does not accept the token"
        case _:
            reason, text = Reason.DIAL_REFUSED, "refused"
    return DialError(reason, f"The relay {text} (HTTP status {status}).", status=status)
