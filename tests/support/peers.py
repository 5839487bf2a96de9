"""TCP peers for tests: an echo, one that is scripted, and what a reset looks like from outside."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        writer.close()
        await writer.wait_closed()  # whoever serves aborts what is left, bytes that wait included


@contextlib.asynccontextmanager
async def listening(serve: Serve, **options) -> AsyncIterator[int]:
    tasks = set()

    async def keep(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(keep, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class Client:
    """A TCP client that can be read, half-closed and reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, size: int = -1) -> bytes:
        async with asyncio.timeout(30):
            return await (self.reader.read() if size < 0 else self.reader.readexactly(size))

    def end(self) -> None:
        self.writer.write_eof()

    def reset(self) -> None:
        reset(self.writer)

    async def is_reset(self) -> bool:
        """Whether the connection ends in a reset; False for an orderly end."""
        try:
            await self.read()
        except ConnectionResetError:
            return True
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(port: int, host: str = "127.0.0.1", **options) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection(host, port, **options)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()
