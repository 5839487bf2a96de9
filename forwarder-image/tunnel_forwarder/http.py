"""Just enough HTTP/1.1 to answer a kubelet, Prometheus and curl.

aiohttp's server, which was here first, takes 11 MiB of a process that is one for each tunnel and has 30
MiB without it. This answers GET and HEAD, one request for each connection, and reads no body: what a
client sends otherwise is answered with a status and a close. Each connection is bounded in time and
bytes, and there are only so many.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

MAX_HEAD = 16 * 1024
MAX_CONNECTIONS = 64
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"

    def to_bytes(self, *, with_body: bool = True) -> bytes:
        """Return the whole message."""
        head = (
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n"
            f"Content-Type: {self.content_type}\r\n"
            f"Content-Length: {len(self.body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + (self.body if with_body else b"")


Routes = Mapping[str, Callable[[], Response]]


def answer(head: bytes, routes: Routes) -> bytes:
    """Return the answer to a request's head."""
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004 - RFC 9112, section 3
        return Response(b"This is no HTTP/1.1 request.\n", 400).to_bytes()
    method, target, _ = words
    if method not in ("GET", "HEAD"):
        return Response(b"Only GET and HEAD are answered.\n", 405).to_bytes()
    route = routes.get(target.partition("?")[0])
    response = Response(b"There is no such page.\n", 404) if route is None else route()
    return response.to_bytes(with_body=method == "GET")


@dataclass(slots=True, eq=False)
class _Server:
    routes: Routes
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self.open += 1
        try:
            # A client that leaves, stalls or says too much has no answer coming.
            with contextlib.suppress(
                OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
            ):
                async with asyncio.timeout(SECONDS):
                    if self.open > MAX_CONNECTIONS:
                        return
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(answer(head, self.routes))
                    await writer.drain()
                    writer.write_eof()
                    while await reader.read(MAX_HEAD):  # a reset now would take the answer with it
                        pass
        finally:
            self.open -= 1
            writer.transport.abort()


@contextlib.asynccontextmanager
async def serving(routes: Routes, sock: socket.socket) -> AsyncIterator[int]:
    """Answer on a listening socket while the block runs; the block gets the port."""
    server = await asyncio.start_server(_Server(routes).serve, sock=sock, limit=MAX_HEAD)
    try:
        yield sock.getsockname()[1]
    finally:
        server.close()
