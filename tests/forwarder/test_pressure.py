"""200 readers that stop: what two real forwarder processes hold for them, and that others run on."""

import asyncio
import contextlib
import socket
import sys
from datetime import UTC, datetime, timedelta

import pytest

from support.bridge import LISTEN, SEND, make_settings
from support.peers import connected, echo, listening
from support.waiting import until

pytestmark = [pytest.mark.programs, pytest.mark.timeout(120)]

STOPPED = 200
KIB_EACH = {False: 1024, True: 512}
"""What the forwarder's README states for each stopped stream, in each forwarder."""
MIB_SHARED = 16
"""The budget by which windows on a shared socket may grow, all together."""


def resident(process):
    with open(f"/proc/{process.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4 / 1024


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
async def forwarders(relay, certificates, folder, targets, *, mux):
    (folder / "token").write_text(SEND.reveal())
    (folder / "listen").write_text(LISTEN.reveal())
    (folder / "ca.crt").write_text(certificates.authority)
    ports = {name: free_port() for name in targets}
    settings = make_settings(
        relay.endpoint, mux=mux, expires_at=datetime.now(UTC) + timedelta(hours=1), named=ports
    )
    (folder / "settings.json").write_text(settings.to_json())
    forwards = [x for name, to in targets.items() for x in ("--forward", f"{name}=127.0.0.1:{to}")]
    async with (
        program(
            "listen", "--endpoint", relay.endpoint, "--hybrid-connection", "hc", "--ca-file",
            folder / "ca.crt", "--token-file", folder / "listen", *forwards,
        ) as device,
        program(
            "serve", "--settings-dir", folder, "--health-port", "0",
            "--termination-log", folder / "end", "--max-streams", "500", "--grace", "0",
        ) as local,
    ):  # fmt: skip
        await until(lambda: all(map(takes_clients, ports.values())), within=15)
        await until(lambda: relay.streams or (relay.listeners and not mux), within=15)
        yield ports, (device, local)
    await until(lambda: not relay.streams, within=10)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def takes_clients(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


async def endless(_reader, writer):
    while True:
        writer.write(b"e" * 65536)
        await writer.drain()


@pytest.mark.parametrize("mux", [False, True], ids=["own-sockets", "shared-socket"])
async def test_stopped_readers_cost_what_is_stated(relay, certificates, tmp_path, mux):
    async with (
        listening(endless, backlog=256) as source,
        listening(echo) as echoing,
        forwarders(
            relay, certificates, tmp_path, {"endless": source, "echo": echoing}, mux=mux
        ) as (ports, processes),
        contextlib.AsyncExitStack() as stack,
    ):
        async with connected(ports["echo"]) as client:
            await exchange(client)
        before = [resident(process) for process in processes]
        for _ in range(STOPPED):
            stuck = await stack.enter_async_context(connected(ports["endless"], limit=1024))
            stuck.writer.transport.pause_reading()
        held = await settled(processes)
        async with connected(ports["echo"]) as client, asyncio.timeout(5):
            for _ in range(50):
                await exchange(client)
        allowed = STOPPED * KIB_EACH[mux] / 1024 + (MIB_SHARED if mux else 0)
        for was, now in zip(before, held, strict=True):
            each = f"{1024 * (now - was) / STOPPED:.0f} KiB for each, of {was:.0f} MiB before"
            print(each)  # noqa: T201 - shown by -s
            assert now - was <= allowed, each
    for _ in range(10):  # so that what was aborted is closed, too
        await asyncio.sleep(0)


async def exchange(client):
    await client.send(b"x" * 1000)
    assert await client.read(1000) == b"x" * 1000


async def settled(processes):
    """Return what they hold once it does not grow any more."""
    seen, same = None, 0
    async with asyncio.timeout(40):
        while same < 5:
            await asyncio.sleep(0.2)
            now = [round(resident(process)) for process in processes]
            same, seen = (same + 1 if now == seen else 0), now
    return seen
