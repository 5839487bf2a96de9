"""Whether the simulated relay holds many idle streams while many new ones come and go, and what it costs.

    python bench/load.py [--idle 2000] [--rate 200] [--seconds 60] [--address 127.0.0.33]

All by one hybrid connection with one listener. The idle streams are opened first, and each has carried a
message each way; then new ones are begun at the given rate, whatever becomes of those before, and each
carries a message each way and closes. At the end every idle stream carries a message again. A stream is
lost when any of that fails or takes longer than 30 s. Exits with 1 when one was lost. Loopback only.
"""

import argparse
import asyncio
import json
import ssl
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import picows
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport

from simulation import (
    HYBRID_CONNECTION,
    Simulation,
    cpu_seconds,
    raise_file_limit,
    resident_kib,
    running,
    simulating,
    until_exists,
)
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import TOKEN_HEADER, RelayEndpoint, connect_url, listen_url

_SECONDS = 30.0
_OPENING = 64
_TOO_BUSY = ": this machine was too busy for them, so losses tell nothing about the relay"
_MESSAGE = b"a message of a few bytes"


class Echo(WSListener):
    """The listener's side: sends back what it gets."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer."""
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


class Sender(WSListener):
    """The sender's side: sends, and waits for the answer."""

    def __init__(self) -> None:
        super().__init__()
        self._answered: asyncio.Future[None] | None = None
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take the answer."""
        del transport
        if frame.msg_type == WSMsgType.BINARY and self._answered and not self._answered.done():
            if frame.get_payload_as_bytes() == _MESSAGE:
                self._answered.set_result(None)
            else:
                self._answered.set_exception(ConnectionError("another message came back"))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Tell who waits."""
        del transport
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the stream was lost"))

    async def call(self) -> None:
        """Send a message and wait for its answer."""
        if self._transport is None or self._transport.is_disconnected:
            raise ConnectionError("the stream was lost")
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.send(WSMsgType.BINARY, _MESSAGE)
        await self._answered

    async def close(self) -> None:
        """Close in order."""
        if self._transport is not None:
            self._transport.send_close(picows.WSCloseCode.OK)
            self._transport.disconnect()
            await self._transport.wait_disconnected()


class Control(WSListener):
    """A listener's control channel: accepts every sender."""

    def __init__(self, client: "Client") -> None:
        super().__init__()
        self._client = client

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Accept."""
        del transport
        if frame.msg_type == WSMsgType.TEXT:
            message = json.loads(frame.get_payload_as_bytes())
            self._client.spawn(self._client.open(message["accept"]["address"], Echo()))


@dataclass(slots=True)
class Client:
    """Everything that dials the relay."""

    simulation: Simulation
    _tasks: set[asyncio.Task[object]] = field(default_factory=set)
    _tls: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        # Nothing is verified: it would be half of what the clients cost, who share the processors.
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    def spawn(self, work: object) -> None:
        """Do something beside."""
        task = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # The sender's side counts it.

    async def open(self, url: str, listener: WSListener, *, token: bool = False) -> WSListener:
        """Open a WebSocket."""
        headers = {TOKEN_HEADER: self.simulation.token.reveal()} if token else None
        await picows.ws_connect(
            lambda _request, _response: listener,
            url,
            ssl_context=self._tls,
            websocket_handshake_timeout=_SECONDS,
            extra_headers=headers,
            read_buffer_init_size=2048,
        )
        return listener

    async def listen(self) -> None:
        """Open the control channel."""
        url = listen_url(self.simulation.endpoint, HYBRID_CONNECTION, tracking_id="l")
        await self.open(url, Control(self), token=True)

    async def stream(self) -> Sender:
        """Open a stream and carry a message each way. Raises whatever goes wrong."""
        async with asyncio.timeout(_SECONDS):
            url = connect_url(self.simulation.endpoint, HYBRID_CONNECTION, tracking_id="s")
            sender = Sender()
            await self.open(url, sender, token=True)
            await sender.call()
            return sender


@dataclass(slots=True)
class Result:
    """What came of it."""

    idle: int = 0
    idle_kib: float = 0.0
    begun: int = 0
    took: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    cpu: float = 0.0
    behind: float = 0.0
    """Seconds that the clients were late at the end: more than one, and this machine was too busy to tell."""

    seconds: float = 0.0

    def report(self) -> str:
        """Return the figures as text."""
        times = sorted(self.took) or [0.0]
        middle, late = statistics.median(times), times[int(len(times) * 0.99)]
        reasons = "".join(f"\n  {reason}" for reason in sorted(set(self.lost))[:5])
        return (
            f"idle streams          {self.idle}\n"
            f"memory for each       {self.idle_kib:.1f} KiB resident, both sockets\n"
            f"new streams           {self.begun} in {self.seconds:.1f} s"
            f" = {self.begun / max(self.seconds, 0.001):.0f}/s\n"
            f"clients behind        {self.behind:.1f} s{_TOO_BUSY if self.behind > 1 else ''}\n"
            f"set-up and a message  median {middle * 1000:.0f} ms, 99 % {late * 1000:.0f} ms\n"
            f"relay's processor     {self.cpu / max(self.seconds, 0.001):.2f} of one\n"
            f"lost                  {len(self.lost)}{reasons}"
        )


async def run(client: Client, *, idle: int, rate: float, seconds: float) -> Result:
    """Carry the whole test out."""
    result, pid = Result(idle=idle), client.simulation.pid
    # The first ones make the process touch what all have in common.
    await _open_idle(client, min(50, idle), result)
    before = resident_kib(pid)
    count = idle - min(50, idle)
    senders = await _open_idle(client, count, result)
    result.idle_kib = (resident_kib(pid) - before) / max(1, count)
    cpu, began = cpu_seconds(pid), time.monotonic()
    await _begin_new(client, rate, seconds, result)
    result.cpu, result.seconds = cpu_seconds(pid) - cpu, time.monotonic() - began
    for sender in senders:
        try:
            async with asyncio.timeout(_SECONDS):
                await sender.call()
        except (OSError, TimeoutError) as error:
            result.lost.append(f"idle: {type(error).__name__} {error}")
    return result


async def _open_idle(client: Client, count: int, result: Result) -> list[Sender]:
    opening = asyncio.Semaphore(_OPENING)
    senders: list[Sender] = []

    async def one() -> None:
        async with opening:
            try:
                senders.append(await client.stream())
            except (OSError, TimeoutError, picows.WSError) as error:
                result.lost.append(f"opening: {type(error).__name__} {error}")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(one())
    return senders


async def _begin_new(client: Client, rate: float, seconds: float, result: Result) -> None:
    """Begin streams by the clock, and wait until the last has ended."""
    loop = asyncio.get_running_loop()

    async def one() -> None:
        began = loop.time()
        try:
            sender = await client.stream()
            result.took.append(loop.time() - began)
            async with asyncio.timeout(_SECONDS):
                await sender.close()
        except (OSError, TimeoutError, picows.WSError) as error:
            result.lost.append(f"new: {type(error).__name__} {error}")

    start = loop.time()
    async with asyncio.TaskGroup() as tasks:
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
            tasks.create_task(one())
            result.begun += 1
        result.behind = max(0.0, loop.time() - start - result.begun / rate)


async def measure(given: argparse.Namespace, directory: Path) -> Result:
    """Start a simulation and a listener, each in a process of its own, and test from this one."""
    async with simulating(directory / "azure", given.address) as simulation:
        target = directory / "listener.json"
        target.write_text(_to_json(simulation))
        words = (str(Path(__file__)), "--listen", str(target))
        async with running(*words, directory=directory, name="listener") as process:
            await until_exists(target.with_suffix(".ready"), process)
            client = Client(simulation)
            return await run(client, idle=given.idle, rate=given.rate, seconds=given.seconds)


async def listen(file: Path) -> None:
    """Accept and echo until the process is ended."""
    body = json.loads(file.read_text())
    simulation = Simulation(
        0, Path(body["ca"]), RelayEndpoint.parse(body["endpoint"]), Secret(body["token"])
    )
    client = Client(simulation)
    await client.listen()
    file.with_suffix(".ready").touch()
    await asyncio.Event().wait()


def _to_json(simulation: Simulation) -> str:
    return json.dumps(
        {
            "ca": str(simulation.ca_file),
            "endpoint": str(simulation.endpoint),
            "token": simulation.token.reveal(),
        }
    )


def main() -> int:
    """Test and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--idle", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=200.0, help="new streams each second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--address", default="127.0.0.33", help="a loopback address of this run")
    parser.add_argument("--listen", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    raise_file_limit()
    if given.listen:
        uvloop.run(listen(given.listen))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        result = uvloop.run(measure(given, Path(directory)))
    sys.stdout.write(result.report() + "\n")
    return 1 if result.lost else 0


if __name__ == "__main__":
    sys.exit(main())
