"""The connections of senders that speak plain HTTP: aiohttp reads their requests and writes the answers."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from .connections import Connections
from .head import MAX_HTTP_HEAD
from .http_rendezvous import SENDER_GONE, HttpRendezvous

HttpHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_MAX_HEADERS = 256


class HttpConnection(RequestHandler):
    """One sender's connection, and the rendezvous that belongs to it once a request needed one."""

    def __init__(self, server: "HttpServer", connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # None turns it off; the stub forgets that
            # The listener gets the bytes that the sender sent.
            auto_decompress=False,
            max_line_size=MAX_HTTP_HEAD,
            max_field_size=MAX_HTTP_HEAD,
            max_headers=_MAX_HEADERS,
        )
        self._connections = connections
        self._counted: asyncio.Transport | None = None
        self.rendezvous: HttpRendezvous | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, by which the connection is counted."""
        super().connection_made(transport)
        self._counted = self.transport

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the rendezvous with it."""
        super().connection_lost(exc)
        if self._counted is not None:
            self._connections.discard(self._counted)
            self._counted = None
        if self.rendezvous is not None:
            self.rendezvous.shut(SENDER_GONE, "The sender is gone.")

    def cut(self) -> None:
        """End the connection without another word."""
        if self._counted is not None:
            self._counted.abort()


class HttpServer(web.Server):
    """Makes connections that all answer by one handler; it is cancelled when its sender is gone."""

    def __init__(self, handler: HttpHandler, connections: Connections) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._sockets = connections

    def __call__(self) -> HttpConnection:
        """Return the protocol for one connection."""
        return HttpConnection(self, self._sockets)
