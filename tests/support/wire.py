"""A length of network before one server, which can break in the ways that networks do."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

CHUNK = 1 << 16


class State(StrEnum):
    """What the wire does with bytes and with new connections."""

    WHOLE = "whole"
    REFUSING = "refusing"
    """Nobody listens, and what was connected is reset."""

    RESETTING = "resetting"
    """Each connection is reset, new ones too."""

    SWALLOWING = "swallowing"
    """A black hole: connections are taken, and nothing comes through or back."""


@dataclass
class Wire:
    """Joins clients to a server's port, byte by byte."""

    host: str
    port: int
    delay: float = 0.0
    """How long each piece of an answer takes."""

    state: State = State.WHOLE
    address: int = 0
    _pairs: set["_Pair"] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Wire"]:
        await self._listen()
        try:
            yield self
        finally:
            await self._deafen()
            self.cut()

    async def be(self, state: State) -> None:
        """Break in a way, or be whole again; what was swallowed is lost."""
        before, self.state = self.state, state
        if before is State.SWALLOWING:
            self.cut()
        if state in {State.REFUSING, State.RESETTING}:
            self.cut()
        if state is State.REFUSING:
            await self._deafen()
        elif self._server is None:
            await self._listen()

    def cut(self) -> None:
        """Reset every connection that there is."""
        for pair in tuple(self._pairs):
            pair.reset()

    def silence(self) -> None:
        """Let every connection that there is carry nothing any more, without an end; new ones are whole."""
        for pair in self._pairs:
            pair.is_silent = True

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.address)
        self.address = self._server.sockets[0].getsockname()[1]

    async def _deafen(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(self, writer)
        if self.state is State.RESETTING:
            pair.reset()
            return
        self._pairs.add(pair)
        try:
            await pair.run(reader)
        finally:
            self._pairs.discard(pair)
            pair.reset()


def lead_through(wire: Wire, kubeconfig: Path) -> None:
    """Let a way in to the API server go over the wire."""
    body = json.loads(kubeconfig.read_text())
    body["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{wire.address}"
    kubeconfig.write_text(json.dumps(body))


@dataclass(eq=False)
class _Pair:
    wire: Wire
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    is_silent: bool = False
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, from_client: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            if self._is_mute():
                await self._swallow(from_client)
                return
            from_server, self.server = await asyncio.open_connection(self.wire.host, self.wire.port)
            await asyncio.gather(
                self._copy(from_client, self.server), self._copy(from_server, self.client)
            )

    def reset(self) -> None:
        self._ended.set()
        for writer in (self.client, self.server):
            if writer is not None:
                _reset(writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self._is_mute():
                await self._swallow(reader)
                return
            if self.wire.delay and writer is self.client:
                await asyncio.sleep(self.wire.delay)
            writer.write(data)
            await writer.drain()
        if self._is_mute():
            # The end of the one is not told to the other either.
            await self._ended.wait()
        writer.close()

    def _is_mute(self) -> bool:
        return self.is_silent or self.wire.state is State.SWALLOWING

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(CHUNK):
            pass
        await self._ended.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by a reset, as an address that changed its owner does."""
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
