"""200 streams whose ends read nothing: what two real forwarder processes hold for them, and that others run on.

The bounds are sums of the buffers there are; each line of `OWN` and `SHARED` is one of them, in KiB.
"""

import asyncio
import contextlib
import itertools
import socket
import sys
from datetime import UTC, datetime, timedelta

import pytest

from support.azure import simulating
from support.bridge import make_settings
from support.peers import connected, echo, listening
from support.waiting import until
from tunnel_forwarder import link, tcp, transport
from tunnel_forwarder.protocol import frames, mux

pytestmark = [pytest.mark.programs, pytest.mark.timeout(400)]

STOPPED = 200
KIB = 1024
_addresses = itertools.count(31)

OWN = {
    "TLS, what was read and is not decrypted yet": 257,  # aiofastnet's ssl_incoming_bio_size
    "TLS, what is encrypted and not sent yet": 257,  # its ssl_outgoing_bio_size
    "TLS, two records of OpenSSL": 34,
    "WebSocket, frames that are not complete yet": 512,  # picows doubles it as reads fill it
    "waiting for the WebSocket": (transport.WRITE_HIGH + tcp.READ_SIZE) // KIB,
    "waiting for the TCP socket": (tcp.WRITE_HIGH + link.READ_AHEAD) // KIB,
    "tasks and objects": 60,
}
SHARED = {
    "received within the window": mux.WINDOW // KIB,
    "waiting for credit": (mux.SEND_HIGH + tcp.READ_SIZE) // KIB,
    "headers and rounding of each frame": 2 * frames.HEADER_LENGTH,
    "tasks and objects": 60,
}
SHARED_MIB = mux.GROWTH_BUDGET // KIB // KIB + 2
"""For all streams of a socket: what windows may grow by, and the socket's own buffers."""


def resident(process):
    with open(f"/proc/{process.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4 / KIB


@contextlib.asynccontextmanager
async def program(*arguments):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunnel_forwarder", "--log-level", "WARNING", *map(str, arguments)
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def forwarders(folder, targets, *, mux):
    async with simulating(folder / "azure", address=f"127.0.2.{next(_addresses)}") as azure:
        await azure.make_hybrid_connection("hc")
        for name in ("token", "listen"):
            (folder / name).write_text(azure.token("hc").reveal())
        (folder / "ca.crt").write_text(azure.authorities)
        ports = {name: free_port() for name in targets}
        settings = make_settings(
            azure.endpoint, mux=mux, expires_at=datetime.now(UTC) + timedelta(hours=1), named=ports
        )
        (folder / "settings.json").write_text(settings.to_json())
        forwards = [f"--forward={name}=127.0.0.1:{port}" for name, port in targets.items()]
        async with (
            program(
                "listen", "--endpoint", azure.endpoint, "--hybrid-connection", "hc", "--ca-file",
                folder / "ca.crt", "--token-file", folder / "listen", *forwards,
            ) as device,
            program(
                "serve", "--settings-dir", folder, "--health-port", "0",
                "--termination-log", folder / "end", "--max-streams", "500", "--grace", "0",
            ) as local,
        ):  # fmt: skip
            await until(lambda: all(map(takes_clients, ports.values())), within=60)
            await until(lambda: azure.sim.listeners("hc") == 1, within=60)
            if mux:  # the shared socket stands, and not only the probes of a pool
                view = azure.sim.hybrid_connections
                await until(lambda: view()["hc"].streams == 1, within=60)
            yield ports, (device, local)
        await until(lambda: not azure.sim.hybrid_connections()["hc"].streams, within=60)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def takes_clients(port):
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def flood(_reader, writer):
    """Write without an end, and read nothing."""
    writer.transport.pause_reading()
    while True:
        writer.write(b"e" * 65536)
        await writer.drain()


@contextlib.asynccontextmanager
async def stuck(port):
    """A stream that is full in both directions."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(reader.readexactly(1))  # it stands
    writing = asyncio.create_task(flood(reader, writer))
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        writer.transport.abort()


@pytest.mark.parametrize("mux", [False, True], ids=["own-sockets", "shared-socket"])
async def test_stopped_readers_cost_what_is_stated(tmp_path, mux):
    each, besides = (sum(SHARED.values()), SHARED_MIB) if mux else (sum(OWN.values()), 0)
    async with (
        listening(flood, backlog=256) as full,
        listening(echo) as echoing,
        forwarders(tmp_path, {"full": full, "echo": echoing}, mux=mux) as (ports, processes),
        contextlib.AsyncExitStack() as stack,
    ):
        async with connected(ports["echo"]) as client:
            await exchange(client)
        before = [resident(process) for process in processes]
        for _ in range(STOPPED):  # one after another: a relay under load lets nobody wait too long
            await stack.enter_async_context(stuck(ports["full"]))
        held = await settled(processes)
        async with connected(ports["echo"]) as client, asyncio.timeout(60):
            for _ in range(50):
                await exchange(client)
        for name, was, now in zip(("device", "local"), before, held, strict=True):
            for_each = KIB * (now - was - besides) / STOPPED
            said = f"{name}: {was:.0f} MiB, then {now:.0f}: {for_each:.0f} KiB for each of {each}"
            print(f"{said}, and {besides} MiB besides")  # noqa: T201 - shown by -s
            assert for_each <= each, said


async def exchange(client):
    await client.send(b"x" * 1000)
    assert await client.read(1000) == b"x" * 1000


async def settled(processes):
    """Return what they hold once it does not grow any more."""
    seen, same = None, 0
    async with asyncio.timeout(120):
        while same < 10:
            await asyncio.sleep(0.2)
            now = [round(resident(process)) for process in processes]
            same, seen = (same + 1 if now == seen else 0), now
    return seen
