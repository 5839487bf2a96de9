"""What the simulated relay's hop costs in CPU for each GiB, beside what the two forwarders cost.

    python bench/relay_hop.py [--gib 1] [--rounds 3] [--address 127.0.0.31]

client ─tcp─ local forwarder ─tls─ relay ─tls─ remote forwarder ─tcp─ target, each a process of its own; the
client and the target are this one. One stream, in each direction in turn. Processors are shared, so the
table gives CPU seconds, which hardly depend on who else is busy; the rate in MiB/s does. Loopback only.
"""

import argparse
import asyncio
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from simulation import (
    HYBRID_CONNECTION,
    Simulation,
    cpu_seconds,
    running,
    simulating,
)
from tunnel_forwarder.protocol.settings import ForwarderSettings, ListenPort

GIB = 1 << 30
CHUNK = 256 * 1024
PARTS = ("relay", "local", "remote")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--gib", type=float, default=1.0, help="for each direction and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--address", default="127.0.0.31", help="a loopback address of this run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(measure(Path(directory), given))
    print(
        f"CPU seconds for each GiB, median of {given.rounds} rounds of {given.gib:g} GiB, one stream"
    )
    print(
        f"{'direction':<20}{'relay':>8}{'local':>8}{'remote':>8}{'relay/local':>13}{'relay/remote':>14}{'MiB/s':>8}"
    )
    for direction, rows in results.items():
        costs = [statistics.median(row[part] for row in rows) for part in PARTS]
        relay, local, remote = costs
        rate = statistics.median(row["rate"] for row in rows)
        print(
            f"{direction:<20}{relay:>8.2f}{local:>8.2f}{remote:>8.2f}"
            f"{relay / local:>13.2f}{relay / remote:>14.2f}{rate:>8.0f}"
        )


async def measure(directory: Path, given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return the costs of each part, by direction and round."""
    results: dict[str, list[dict[str, float]]] = {"client to target": [], "target to client": []}
    with socket.create_server(("127.0.0.1", 0)) as target:
        async with (
            simulating(directory / "azure", given.address) as simulation,
            forwarding(directory, simulation, target.getsockname()[1]) as (port, local, remote),
        ):
            pids = {"relay": simulation.pid, "local": local, "remote": remote}
            for _ in range(given.rounds):
                for direction, rows in results.items():
                    up = direction == "client to target"
                    rows.append(
                        await asyncio.to_thread(
                            transfer, target, port, int(given.gib * GIB), pids, up=up
                        )
                    )
    return results


@asynccontextmanager
async def forwarding(
    directory: Path, simulation: Simulation, target: int
) -> AsyncIterator[tuple[int, int, int]]:
    """Run both forwarders; yields the local one's port, and their process numbers."""
    settings_dir, token_file = directory / "settings", directory / "token"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings_dir.mkdir()
    settings = ForwarderSettings(
        tunnel="bench",
        correlation_id="bench",
        endpoint=simulation.endpoint,
        hybrid_connection=HYBRID_CONNECTION,
        ports=(ListenPort("echo", port),),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
        idle_seconds=0,
        warm_connections=0,
    )
    (settings_dir / "settings.json").write_text(settings.to_json())
    (settings_dir / "ca.crt").write_text(simulation.ca_file.read_text())
    for file in (settings_dir / "token", token_file):
        file.write_text(simulation.token.reveal())
    listen = (
        "listen", "--endpoint", str(simulation.endpoint), "--hybrid-connection", HYBRID_CONNECTION,
        "--token-file", str(token_file), "--forward", f"echo=127.0.0.1:{target}",
        "--ca-file", str(simulation.ca_file),
    )  # fmt: skip
    serve = (
        "serve", "--settings-dir", str(settings_dir), "--health-port", "0",
        "--termination-log", str(directory / "end"),
    )  # fmt: skip
    async with (
        running("-m", "tunnel_forwarder", *listen, directory=directory, name="remote") as remote,
        running("-m", "tunnel_forwarder", *serve, directory=directory, name="local") as local,
    ):
        await until_log(directory / "remote.log", "control.opened")
        await until_open(port)
        yield port, local.pid, remote.pid


async def until_log(file: Path, word: str) -> None:
    """Return when a log has a word in it."""
    async with asyncio.timeout(20):
        while word not in file.read_text():
            await asyncio.sleep(0.05)


async def until_open(port: int) -> None:
    """Return when somebody listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.transport.abort()
                return


def transfer(
    target: socket.socket, port: int, size: int, pids: dict[str, int], *, up: bool
) -> dict[str, float]:
    """Carry so many bytes by one stream; return the CPU seconds for each GiB, and the rate."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        target.settimeout(20)
        server = accept_with_byte(target, client)
        with server:
            server.settimeout(60)
            before = {name: cpu_seconds(pid) for name, pid in pids.items()}
            began = time.monotonic()
            source, sink = (client, server) if up else (server, client)
            sending = threading.Thread(target=send, args=(source, size))
            sending.start()
            receive(sink, size)
            sending.join()
            seconds = time.monotonic() - began
            gib = size / GIB
            costs = {name: (cpu_seconds(pid) - before[name]) / gib for name, pid in pids.items()}
            return costs | {"rate": size / seconds / (1 << 20)}


def accept_with_byte(target: socket.socket, client: socket.socket) -> socket.socket:
    """Return the stream's other end: the one at which the client's first byte arrives."""
    client.sendall(b"x")
    while True:
        server, _ = target.accept()
        server.settimeout(20)
        if server.recv(1) == b"x":
            return server
        server.close()  # the stream of a probe


def send(source: socket.socket, size: int) -> None:
    """Send so many bytes."""
    chunk = bytes(CHUNK)
    while size:
        sent = source.send(chunk[: min(size, CHUNK)])
        size -= sent


def receive(sink: socket.socket, size: int) -> None:
    """Receive so many bytes."""
    buffer = bytearray(CHUNK)
    while size:
        read = sink.recv_into(buffer)
        if not read:
            raise ConnectionError(f"The stream ended {size} bytes too early.")
        size -= read


if __name__ == "__main__":
    main()
