"""A proxy that knows CONNECT alone, with or without credentials."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator


class ConnectProxy:
    def __init__(self, *, credentials: str = "", status: int = 200) -> None:
        self.credentials = credentials
        self.status = status
        self.asked: list[str] = []
        self.port = 0
        self._tasks: set[asyncio.Task] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["ConnectProxy"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        try:
            # Called off by the end of the proxy: asyncio would print it.
            ended = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
            with contextlib.suppress(*ended):
                await self._answer(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        verb, target, _ = head.split("\r\n", 1)[0].split(" ")
        self.asked.append(f"{verb} {target}")
        basic = base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and f"Proxy-Authorization: Basic {basic}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            await writer.drain()
            return
        if self.status != 200:
            writer.write(f"HTTP/1.1 {self.status} No\r\n\r\n".encode())
            await writer.drain()
            return
        host, _, port = target.rpartition(":")
        there, back = await asyncio.open_connection(host.strip("[]"), int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        finally:
            back.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
