"""A plain azbridge peer, both ends, written only from protocols.md, sections 1 and 3.

Nothing of tunnel_forwarder is used: aiohttp speaks WebSocket, the rest is what the page says, quirks included
(the listener answers before it opens its target).
"""

import asyncio
import contextlib
import json
import socket
import struct
import uuid
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import WSMsgType

READ = 65536


@contextlib.asynccontextmanager
async def websocket(url: str, tls, token: str | None = None) -> AsyncIterator:
    headers = {"ServiceBusAuthorization": token} if token else {}
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(
            url, ssl=tls, headers=headers, autoclose=False, max_msg_size=0, compress=0
        )
        try:
            yield socket
        finally:
            socket._response.close()  # aiohttp would wait for a Close that has come already


class Stream:
    """A WebSocket as a stream of bytes: a Close, or an empty message, reads as the end."""

    def __init__(self, socket) -> None:
        self.socket = socket
        self.ended = self.lost = False
        self._rest = b""

    async def read(self) -> bytes:
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        if self.ended:
            return b""
        message = await self.socket.receive()
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT) and message.data:
            data = message.data
            return data if isinstance(data, bytes) else data.encode()
        self.ended = True
        self.lost = message.type is not WSMsgType.CLOSE or message.data not in (1000, 0, None)
        return b""

    async def exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = await self.read()
            if not part:
                return data
            data += part
        data, self._rest = data[:count], data[count:] + self._rest
        return data

    async def write(self, data: bytes) -> None:
        await self.socket.send_bytes(data)

    async def end(self) -> None:
        """CloseOutputAsync(1000, "Shutdown"): a Close frame, while reading goes on."""
        await self.socket._writer.close(1000, b"Shutdown")

    def abort(self) -> None:
        transport = self.socket._conn.transport if self.socket._conn else None
        if transport is not None:
            transport.abort()


async def pump(reader, writer, stream: Stream) -> None:
    """Both directions until both have ended (`StreamPump.cs`)."""

    async def there() -> None:
        while data := await reader.read(READ):
            await stream.write(data)
        await stream.end()

    async def back() -> None:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()
        if stream.lost:
            raise ConnectionError("the stream was lost")
        writer.write_eof()

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(there())
            tasks.create_task(back())
    except* (ConnectionError, aiohttp.ClientError):
        stream.abort()
        _reset(writer)
    else:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket whose packets come out of a queue, with their sources."""

    def __init__(self) -> None:
        self.inbox = asyncio.Queue()

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        self.inbox.put_nowait((data, addr))


@contextlib.asynccontextmanager
async def datagrams(**options) -> AsyncIterator[Datagrams]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, **options)
    try:
        yield protocol
    finally:
        transport.close()


async def frames_out(stream: Stream, send) -> None:
    """Cut what comes into packets: two bytes of length, big-endian, before each (section 3.3)."""
    while len(head := await stream.exactly(2)) == 2:
        send(await stream.exactly(int.from_bytes(head, "big")))


async def frame_in(stream: Stream, data: bytes) -> None:
    """Send a packet as one message."""
    await stream.write(len(data).to_bytes(2, "big") + data)


def _reset(writer) -> None:
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Listener:
    """`azbridge -T hc:name/host:port`; the ports of the names in `udp` take datagrams."""

    def __init__(self, base: str, tls, token: str, targets: dict[str, int], udp=()) -> None:
        self.base, self.tls, self.token, self.targets = base, tls, token, targets
        self.udp = udp
        self.listening = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Listener"]:
        task = asyncio.create_task(self._listen())
        try:
            async with asyncio.timeout(5):
                await self.listening.wait()
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        url = f"wss://{self.base}/$hc/hc?sb-hc-action=listen&sb-hc-id={uuid.uuid4()}"
        async with websocket(url, self.tls, self.token) as control, asyncio.TaskGroup() as tasks:
            self.listening.set()
            async for message in control:
                accept = json.loads(message.data).get("accept")
                if accept:
                    tasks.create_task(self._accept(accept["address"]))

    async def _accept(self, address: str) -> None:
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            async with websocket(address, self.tls) as socket:
                stream = Stream(socket)
                head = await stream.exactly(4)
                if len(head) < 4:
                    return
                name = (await stream.exactly(head[3])).decode()
                port = self._find(name)
                if port is None:
                    await stream.end()
                    return
                if (head[2] == 1) != (name in self.udp):
                    await stream.write(b"\x00\x00\x01" if name in self.udp else b"\x00\x00\xff")
                    await stream.end()
                    return
                if name in self.udp:
                    await stream.write(b"\x01\x00\x01")
                    await self._carry_datagrams(stream, port)
                    return
                await stream.write(b"\x01\x00\x00")
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await stream.end()
                    return
                await pump(reader, writer, stream)

    @staticmethod
    async def _carry_datagrams(stream: Stream, port: int) -> None:
        async with datagrams(remote_addr=("127.0.0.1", port)) as near:

            async def back() -> None:
                while True:
                    await frame_in(stream, (await near.inbox.get())[0])

            task = asyncio.create_task(back())
            try:
                await frames_out(stream, near.transport.sendto)
            finally:
                task.cancel()
                await asyncio.wait([task])

    def _find(self, name: str) -> int | None:
        if len(self.targets) == 1 and name.strip().lstrip("+-").isdecimal():
            return next(iter(self.targets.values()))
        return self.targets.get(name)


class Sender:
    """`azbridge -L port/name:hc`: TCP is accepted before anything is dialled."""

    def __init__(self, base: str, tls, token: str) -> None:
        self.base, self.tls, self.token = base, tls, token
        self._tasks = set()

    @contextlib.asynccontextmanager
    async def forwarding(self, name: str, port: int = 0) -> AsyncIterator[int]:
        async def serve(reader, writer) -> None:
            self._tasks.add(asyncio.current_task())
            try:
                with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                    await self._forward(name, reader, writer)
            finally:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _forward(self, name: str, reader, writer) -> None:
        url = f"wss://{self.base}/$hc/hc?sb-hc-action=connect&sb-hc-id={uuid.uuid4()}"
        async with websocket(url, self.tls, self.token) as socket:
            stream = Stream(socket)
            text = name.encode()
            await stream.write(bytes((1, 0, 0, len(text))))
            await stream.write(text)
            if await stream.exactly(3) != b"\x01\x00\x00":
                return
            await pump(reader, writer, stream)

    @contextlib.asynccontextmanager
    async def forwarding_datagrams(self, name: str) -> AsyncIterator[int]:
        """`azbridge -L portU/name:hc`: one stream for each source."""
        async with datagrams(local_addr=("127.0.0.1", 0)) as near, asyncio.TaskGroup() as tasks:
            sources = {}

            async def take() -> None:
                while True:
                    data, source = await near.inbox.get()
                    if source not in sources:
                        sources[source] = asyncio.Queue()
                        tasks.create_task(self._carry(name, near, source, sources[source]))
                    sources[source].put_nowait(data)

            taking = tasks.create_task(take())
            yield near.transport.get_extra_info("sockname")[1]
            taking.cancel()
            for inbox in sources.values():
                inbox.put_nowait(None)

    async def _carry(self, name: str, near: Datagrams, source, inbox: asyncio.Queue) -> None:
        url = f"wss://{self.base}/$hc/hc?sb-hc-action=connect&sb-hc-id={uuid.uuid4()}"
        async with websocket(url, self.tls, self.token) as socket:
            stream = Stream(socket)
            text = name.encode()
            await stream.write(bytes((1, 0, 1, len(text))))
            await stream.write(text)
            if await stream.exactly(3) != b"\x01\x00\x01":
                return
            back = asyncio.create_task(
                frames_out(stream, lambda data: near.transport.sendto(data, source))
            )
            while (data := await inbox.get()) is not None:
                await frame_in(stream, data)
            await stream.end()
            back.cancel()
            await asyncio.wait([back])
