"""The streams of a soak: what a client and a target do in each, and whether that came out right.

Both ends run in the soak's process and know what the other sends. What holds for each direction:

* An orderly end comes after exactly the bytes that were sent, and only if the sender ended in order.
* Whatever comes before a reset is the beginning of what was sent.
* Each end hears of the stream's end within `PATIENCE` seconds.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PATIENCE = 100.0
"""Seconds: a dial, an answer that never comes, a pause of the fault's, and what was to be carried."""

LOST_SECONDS = 2.0
"""After a client's loss, until a stream that the target has not heard of counts as never begun."""

KINDS = ("ask", "tell", "both", "both", "slow", "idle", "leave", "cut")
CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens in one stream. Both ends make the same of the same line."""

    number: int
    kind: str
    up: int
    down: int
    pause: float

    @classmethod
    def draw(cls, number: int, chance: random.Random) -> "Plan":
        """Return another plan: many are small, some are large."""
        most = chance.choice((200, 4000, 200_000, 2_000_000))
        sizes = chance.randrange(1, most), chance.randrange(1, most)
        return cls(number, chance.choice(KINDS), *sizes, round(chance.uniform(0.0, 12.0), 2))

    @classmethod
    def parse(cls, line: bytes) -> "Plan":
        """Read what the client asks for."""
        number, kind, up, down, pause = line.decode().split()
        return cls(int(number), kind, int(up), int(down), float(pause))

    def to_line(self) -> bytes:
        """Return the line by which the client asks for it."""
        return f"{self.number} {self.kind} {self.up} {self.down} {self.pause}\n".encode()

    def bytes_up(self) -> bytes:
        """Return what the client sends."""
        return random.Random(f"{self.number} up").randbytes(self.up)  # noqa: S311 - no secret

    def bytes_down(self) -> bytes:
        """Return what the target sends."""
        return random.Random(f"{self.number} down").randbytes(self.down)  # noqa: S311 - no secret


@dataclass(slots=True)
class Side:
    """What one end has seen of a stream."""

    received: bytearray = field(default_factory=bytearray)
    ended: str = "open"
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, reader: asyncio.StreamReader, *, slow: bool = False) -> None:
        """Read to the end, in order or not."""
        try:
            while data := await reader.read(CHUNK):
                self.received += data
                if slow:
                    await asyncio.sleep(0.01)
            self.ended = "eof"
        except OSError:
            self.ended = "reset"


async def send(writer: asyncio.StreamWriter, data: bytes, *, end: bool, pause: float = 0.0) -> None:
    """Send all of it and end in order, unless the connection is lost before."""
    with contextlib.suppress(OSError, RuntimeError):
        for at in range(0, len(data), CHUNK):
            if at and at <= len(data) // 2 < at + CHUNK:
                await asyncio.sleep(pause)
            writer.write(data[at : at + CHUNK])
            await writer.drain()
        if end:
            writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """Hang up so that the peer sees a reset."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # it may be closed, or none any more
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def flushed(writer: asyncio.StreamWriter) -> None:
    """Wait until the system has all that was written, so that hanging up takes nothing of it back."""
    while not writer.transport.is_closing() and writer.transport.get_write_buffer_size():
        await asyncio.sleep(0.01)


class Streams:
    """All streams of a soak. `counts` says how they ended, `wrong` what must not have happened."""

    def __init__(self, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.bytes = 0
        self.open = 0
        self._chance = random.Random(f"{seed} streams")  # noqa: S311 - no secret
        self._number = 0
        self._targets: dict[int, Side] = {}

    @contextlib.asynccontextmanager
    async def target(self) -> AsyncIterator[int]:
        """Serve what clients ask for; the block gets the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=CHUNK, backlog=256)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                plan = Plan.parse(await reader.readuntil())
            except (OSError, asyncio.IncompleteReadError):
                return  # the stream was lost before it had asked
            side = self._targets.get(plan.number)
            if side is None or side.begun.is_set():
                self.wrong.append(f"{plan} came twice, or was never sent")
                return
            side.begun.set()
            try:
                await self._act(plan, side, reader, writer)
            finally:
                side.over.set()
        finally:
            writer.transport.abort()

    @staticmethod
    async def _act(
        plan: Plan, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        data = plan.bytes_down()
        if plan.kind == "cut":
            await send(writer, data[: plan.down // 2], end=False)
            await asyncio.sleep(plan.pause / 20)
            reset(writer)
            side.ended = "left"
            return
        if plan.kind == "ask":
            await side.read(reader)
            await send(writer, data, end=True)
        else:
            sending = asyncio.create_task(send(writer, data, end=True))
            await side.read(reader)
            await sending
        await flushed(writer)

    async def one(self, port: int, mode: str) -> None:
        """Run one stream and judge it."""
        self._number += 1
        plan = Plan.draw(self._number, self._chance)
        here, there = Side(), Side()
        self._targets[plan.number] = there
        self.open += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._use(plan, here, port)
            await self._over_there(plan, here, there, mode)
        except TimeoutError:
            self.wrong.append(f"{mode} {plan}: the client hangs")
            return
        finally:
            self.open -= 1
        self.bytes += len(here.received) + len(there.received)
        self._judge(plan, here, there, mode)

    async def _use(self, plan: Plan, side: Side, port: int) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
        except OSError:
            side.ended = "reset"
            return
        try:
            with contextlib.suppress(OSError):
                writer.write(plan.to_line())
                await writer.drain()
            data = plan.bytes_up()
            if plan.kind == "leave":
                await send(writer, data[: plan.up // 2], end=False)
                await asyncio.sleep(plan.pause / 20)
                reset(writer)
                side.ended = "left"
            elif plan.kind == "tell":
                await side.read(reader)
                await send(writer, data, end=True)
                await flushed(writer)
            else:
                pause = plan.pause if plan.kind == "idle" else 0.0
                sending = asyncio.create_task(send(writer, data, end=True, pause=pause))
                try:
                    await side.read(reader, slow=plan.kind == "slow")
                    if side.ended == "eof":
                        await sending
                        await flushed(writer)
                finally:
                    sending.cancel()
                    await asyncio.wait([sending])
        finally:
            writer.transport.abort()

    async def _over_there(self, plan: Plan, here: Side, there: Side, mode: str) -> None:
        """Wait for the target's end, unless the stream was lost before it came that far."""
        try:
            async with asyncio.timeout(LOST_SECONDS if here.ended != "eof" else PATIENCE):
                await there.begun.wait()
        except TimeoutError:
            if here.ended == "eof":
                self.wrong.append(f"{mode} {plan}: an orderly end, and the target knows nothing")
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await there.over.wait()
        except TimeoutError:
            self.wrong.append(f"{mode} {plan}: the target hears of no end")
        self._targets.pop(plan.number, None)

    def _judge(self, plan: Plan, here: Side, there: Side, mode: str) -> None:
        for name, side, sent, in_order in (
            ("client", here, plan.bytes_down(), plan.kind != "cut"),
            ("target", there, plan.bytes_up(), plan.kind != "leave"),
        ):
            got = bytes(side.received)
            if not sent.startswith(got):
                self.wrong.append(f"{mode} {plan}: the {name} got what was not sent")
            elif side.ended == "eof" and not (in_order and got == sent):
                text = f"{len(got)} of {len(sent)} bytes"
                self.wrong.append(f"{mode} {plan}: an orderly end at the {name} after {text}")
        good = here.ended == there.ended == "eof"
        left = "left" in (here.ended, there.ended)
        self.counts[f"{mode}: {'whole' if good else 'left by an end' if left else 'reset'}"] += 1
