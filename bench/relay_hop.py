"""What the simulated relay's hop costs in CPU for each GiB, beside the two forwarders and beside C proxies.

    python bench/relay_hop.py [--gib 1] [--rounds 5] [--address 127.0.0.31] [--output bench/results/relay_hop.md]

client ─tcp─ local forwarder ─tls─ relay ─tls─ remote forwarder ─tcp─ target, each a process of its own; the
client and the target are this one. One stream, in each direction in turn; then the same bytes through nginx
and HAProxy where they are installed (Debian's nginx-light, libnginx-mod-stream, haproxy). Processors are shared, so the table gives
CPU seconds, which depend less on who else is busy than a rate does, and ratios within a round. Loopback only.
"""

import argparse
import asyncio
import platform
import socket
import ssl
import statistics
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from carrying import GIB, carry
from simulation import HYBRID_CONNECTION, Simulation, running, simulating
from tls_proxies import TlsProxy, tls_proxies
from tunnel_forwarder.protocol.settings import ForwarderSettings, ListenPort

Row = dict[str, float]
DIRECTIONS = ("client to target", "target to client")
HEAD = """\
# The relay's hop

CPU seconds for each GiB: medians of {rounds} interleaved rounds of {gib:g} GiB, one stream, ± half of the spread. Each ratio
is the median of the rounds' own ratios. {machine}

| direction | part | CPU s for each GiB | relay's cost / this one's | this one's cost / a forwarder's |
|---|---|---|---|---|
"""
FOOT = """
* relay: the simulated relay, with TLS to both sides and WebSocket frames in between. A forwarder's row is compared with itself.
* nginx (stream) and HAProxy (mode tcp): one process each that takes TLS and dials TLS, and looks into nothing.
* A forwarder has TLS on one side and plain TCP on the other. "A forwarder's" is the mean of the two in the same round.
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--gib", type=float, default=1.0, help="for each direction and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--address", default="127.0.0.31", help="a loopback address of this run")
    parser.add_argument("--output", type=Path, help="where the report is written besides")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results = asyncio.run(measure(Path(directory), given))
    report = render(results, given)
    print(report)
    if given.output:
        given.output.write_text(report)


def render(results: dict[str, list[Row]], given: argparse.Namespace) -> str:
    """Return the report."""
    machine = (
        f"Linux {platform.release()}, Python {platform.python_version()}, {ssl.OPENSSL_VERSION}."
    )
    lines = []
    for direction, rows in results.items():
        for part in (name for name in rows[0] if name != "rate"):
            costs = [row[part] for row in rows]
            relay = statistics.median(row["relay"] / row[part] for row in rows)
            forwarder = statistics.median(
                2 * row[part] / (row["local"] + row["remote"]) for row in rows
            )
            spread = (max(costs) - min(costs)) / 2
            lines.append(
                f"| {direction} | {part} | {statistics.median(costs):.2f} ±{spread:.2f} "
                f"| {relay:.2f} | {forwarder:.2f} |\n"
            )
    head = HEAD.format(rounds=given.rounds, gib=given.gib, machine=machine)
    return head + "".join(lines) + FOOT + conclusion(results)


def conclusion(results: dict[str, list[Row]]) -> str:
    """Return what the proxies say of what a hop can cost; nothing where none is installed."""
    rows = [row for direction in results.values() for row in direction]
    proxies = rows[0].keys() - {"relay", "local", "remote", "rate"}
    if not proxies:
        return ""
    least = statistics.median(
        2 * min(row[proxy] for proxy in proxies) / (row["local"] + row["remote"]) for row in rows
    )
    relay = statistics.median(2 * row["relay"] / (row["local"] + row["remote"]) for row in rows)
    verdict = "costs more" if least > 1 else "need not cost more"
    return (
        f"* So a hop that decrypts and encrypts {verdict} than a forwarder on this machine, also without WebSocket: the\n"
        f"  cheaper proxy of each round {least:.2f} times as much, the relay {relay:.2f} times.\n"
    )


async def measure(directory: Path, given: argparse.Namespace) -> dict[str, list[Row]]:
    """Return the costs of each part, by direction and round."""
    results: dict[str, list[Row]] = {direction: [] for direction in DIRECTIONS}
    size = int(given.gib * GIB)
    azure = directory / "azure"
    with socket.create_server(("127.0.0.1", 0)) as target:
        async with (
            simulating(azure, given.address) as simulation,
            forwarding(directory, simulation, target.getsockname()[1]) as (port, local, remote),
            tls_proxies(directory, azure, given.address) as proxies,
        ):
            pids = {"relay": simulation.pid, "local": local, "remote": remote}
            for _ in range(given.rounds):
                for direction, rows in results.items():
                    up = direction == DIRECTIONS[0]
                    row = await asyncio.to_thread(transfer, target, port, size, pids, up=up)
                    rows.append(row | await asyncio.to_thread(limits, proxies, size, up=up))
    return results


def limits(proxies: tuple[TlsProxy, ...], size: int, *, up: bool) -> Row:
    """Return what each proxy costs."""
    return {proxy.name: proxy.carry(size, up=up) for proxy in proxies}


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


def transfer(target: socket.socket, port: int, size: int, pids: dict[str, int], *, up: bool) -> Row:
    """Carry so many bytes by one stream; return the CPU seconds for each GiB, and the rate."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(60)
        target.settimeout(20)
        with accept_with_byte(target, client) as server:
            server.settimeout(60)
            source, sink = (client, server) if up else (server, client)
            return carry(source, sink, size, pids)


def accept_with_byte(target: socket.socket, client: socket.socket) -> socket.socket:
    """Return the stream's other end: the one at which the client's first byte arrives."""
    client.sendall(b"x")
    while True:
        server, _ = target.accept()
        server.settimeout(20)
        if server.recv(1) == b"x":
            return server
        server.close()  # the stream of a probe


if __name__ == "__main__":
    main()
