"""The bridge for a long time, with faults from the simulated Azure's switches: `make soak`.

Four processes besides this one: the simulated Azure, a device, and two local forwarders, one with a socket
for each stream and one with a socket that all share. Exit code 0 says that all of this held:

* No byte was lost: each stream came through whole, or with a reset (`soak_streams`).
* In each rest, when the streams are over, each forwarder has as many sockets and tasks as before the first.
* From the first rest to the last, no forwarder's memory grows.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from tunnel_forwarder import allocator
from tunnel_forwarder.protocol.settings import ForwarderSettings, ListenPort
from tunnel_forwarder.protocol.urls import RelayEndpoint

from . import soak_report
from .processes import Programs, free_port
from .soak_faults import Faults
from .soak_streams import Streams

CLIENTS = 10
"""At once, for each of the two forwarders."""

WHOLE_MINUTES = 20.0
ROUNDS = 4
WARM = 4
SAMPLE_SECONDS, PRINT_SECONDS = 2.0, 30.0
QUIET_SECONDS = 120.0
"""In which everything has to be as before: a socket that is closed in order may take half a minute."""

MODES = {"own sockets": False, "shared socket": True}


@dataclass(frozen=True, slots=True)
class Held:
    """What a process has open."""

    sockets: int
    tasks: tuple[str, ...]


@dataclass(slots=True)
class Stage:
    """The processes, and where they are reached."""

    folder: Path
    programs: Programs
    ports: dict[str, int] = field(default_factory=dict)
    health: dict[str, int] = field(default_factory=dict)
    admin: str = ""

    def start(self, name: str, *arguments: object) -> None:
        """Start a forwarder that tells of its tasks."""
        bench = Path(__file__).parent.parent
        command = [sys.executable, "-m", "bridge.watched", self.folder / f"{name}.tasks"]
        given = ["--log-level", "WARNING", *map(str, arguments)]
        self.programs.start(name, [*command, *given], {"PYTHONPATH": str(bench)})

    def sizes(self) -> dict[str, float]:
        """Return each process's resident memory in MiB."""
        return {name: size for name, (size, _) in self.programs.memory().items()}

    async def held(self, name: str) -> Held:
        """Ask a process what it has open."""
        pid = self.programs.pid(name)
        file = self.folder / f"{name}.tasks"
        file.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR1)
        async with asyncio.timeout(30):
            while not file.exists():
                await asyncio.sleep(0.05)
        return Held(_sockets(pid), tuple(json.loads(file.read_text())))


def _sockets(pid: int) -> int:
    count = 0
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since
            count += str(one.readlink()).startswith("socket:")
    return count


FORWARDERS = ("device", *MODES)


@contextlib.asynccontextmanager
async def standing(folder: Path, target: int, seed: int) -> AsyncIterator[Stage]:
    """Start everything; the block begins when both tunnels are proven."""
    stage = Stage(folder, Programs(folder))
    try:
        bench, address = str(Path(__file__).parent.parent), f"127.0.{os.getpid() % 200 + 50}.71"
        relay = ["-m", "bridge.relay", str(folder), address, "--seed", str(seed)]
        stage.programs.start("relay", [sys.executable, *relay], {"PYTHONPATH": bench})
        facts = await _facts(folder / "bench.json")
        stage.admin = str(facts["admin"])
        (folder / "token").write_text(facts["token"])
        endpoint = RelayEndpoint(address, facts["port"])
        stage.start(
            "device", "listen", "--endpoint", endpoint, "--hybrid-connection", "hc",
            "--token-file", folder / "token", "--ca-file", facts["ca"],
            "--forward", f"soak=127.0.0.1:{target}",
        )  # fmt: skip
        for name, shared in MODES.items():
            _start_local(stage, name, endpoint, facts, shared=shared)
        async with asyncio.timeout(60):
            await ready(stage)
        yield stage
    finally:
        stage.programs.stop()


def _start_local(
    stage: Stage, name: str, endpoint: RelayEndpoint, facts: dict[str, Any], *, shared: bool
) -> None:
    mounted = stage.folder / name.replace(" ", "-")
    mounted.mkdir()
    stage.ports[name], stage.health[name] = free_port(), free_port()
    settings = ForwarderSettings(
        tunnel="soak/soak",
        correlation_id="soak",
        endpoint=endpoint,
        hybrid_connection="hc",
        ports=(ListenPort("soak", stage.ports[name]),),
        expires_at=datetime.now(UTC) + timedelta(hours=12),
        idle_seconds=0,
        warm_connections=WARM,
        mux=shared,
    )
    (mounted / "settings.json").write_text(settings.to_json())
    (mounted / "token").write_text(facts["token"])
    (mounted / "ca.crt").write_text(Path(facts["ca"]).read_text())
    stage.start(
        name, "serve", "--settings-dir", mounted, "--health-port", stage.health[name],
        "--termination-log", mounted / "end",
    )  # fmt: skip


async def _facts(file: Path) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while not file.exists():
            await asyncio.sleep(0.05)
    facts: dict[str, Any] = json.loads(file.read_text())
    return facts


async def ready(stage: Stage) -> None:
    """Return once each local forwarder has what it keeps ready, and no stream."""
    async with aiohttp.ClientSession() as http:
        for name, port in stage.health.items():
            while True:
                with contextlib.suppress(OSError, aiohttp.ClientError):
                    async with http.get(f"http://127.0.0.1:{port}/status") as answer:
                        status = await answer.json()
                    enough = MODES[name] or status["warmConnections"] == WARM
                    if status["ready"] and enough and not status["streams"]:
                        break
                await asyncio.sleep(0.2)


async def settled(stage: Stage) -> dict[str, Held]:
    """Return what the forwarders have open, once it does not change."""
    async with asyncio.timeout(60):
        while True:
            before = {name: await stage.held(name) for name in FORWARDERS}
            await asyncio.sleep(2.0)
            after = {name: await stage.held(name) for name in FORWARDERS}
            if before == after:
                return after


async def leftovers(stage: Stage, before: dict[str, Held]) -> dict[str, str]:
    """Return what is left of the streams in each forwarder after a while; "" for nothing."""
    left: dict[str, str] = {}
    try:
        async with asyncio.timeout(QUIET_SECONDS):
            while True:
                await ready(stage)
                now = {name: await stage.held(name) for name in FORWARDERS}
                left = {name: _more(before[name], now[name]) for name in FORWARDERS}
                if not any(left.values()):
                    return left
                await asyncio.sleep(1.0)
    except TimeoutError:
        return left or {"": "the tunnels do not come back"}


def _more(before: Held, now: Held) -> str:
    tasks = list(now.tasks)
    for name in before.tasks:
        if name in tasks:
            tasks.remove(name)
    sockets = now.sockets - before.sockets
    said = [f"{sockets} sockets"] if sockets > 0 else []
    more = len(now.tasks) - len(before.tasks)
    return ", ".join(said + ([f"{more} tasks {tasks[:5]}"] if more > 0 else []))


async def soak(
    stage: Stage, streams: Streams, faults: Faults, memory: soak_report.Memory, minutes: float
) -> None:
    """Let clients and faults run for so long, and note the memory of every process."""
    end = time.monotonic() + minutes * 60

    async def client(mode: str) -> None:
        while time.monotonic() < end:
            await streams.one(stage.ports[mode], mode)

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(_look(stage, memory, streams, faults))
        trouble = [group.create_task(faults.lose()), group.create_task(faults.disturb())]
        clients = [group.create_task(client(mode)) for mode in MODES for _ in range(CLIENTS)]
        await asyncio.sleep(max(0.0, end - time.monotonic()))
        for task in trouble:  # the last streams end undisturbed
            task.cancel()
        await faults.heal()
        await faults.cut()
        await asyncio.wait(clients)
        looking.cancel()


async def _look(stage: Stage, memory: soak_report.Memory, streams: Streams, faults: Faults) -> None:
    """Note every process's memory, and print a line now and then."""
    shown = 0.0
    while True:
        now = time.monotonic()
        memory.note(now, stage.sizes())
        if now - shown > PRINT_SECONDS:
            shown = now
            print(soak_report.line(memory, streams, faults), flush=True)
        await asyncio.sleep(SAMPLE_SECONDS)


async def main(minutes: float, seed: int, results: Path | None) -> int:
    """Soak in rounds with a rest after each, report, and return the exit code."""
    streams, memory = Streams(seed), soak_report.Memory()
    left: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        async with (
            aiohttp.ClientSession() as http,
            streams.target() as target,
            standing(Path(folder), target, seed) as stage,
        ):
            before = await settled(stage)
            faults = Faults(stage.admin, seed, http)
            for _ in range(ROUNDS):
                await soak(stage, streams, faults, memory, minutes / ROUNDS)
                for name, what in (await leftovers(stage, before)).items():
                    left[name] = left.get(name) or what
                await asyncio.sleep(allocator.SECONDS + SAMPLE_SECONDS)
                memory.rest(stage.sizes())
            report = soak_report.Report(minutes, seed, streams, faults, memory, before, left)
            print(report.text())
            if results is not None:
                results.write_text(report.text())
    return 1 if report.failures else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=WHOLE_MINUTES)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    page = Path(__file__).parents[1] / "results" / "soak.md"
    parser.add_argument("--results", type=Path, help=f"for the report; of a whole run {page.name}")
    given = parser.parse_args()
    if given.results is None and given.minutes >= WHOLE_MINUTES:
        given.results = page
    print(f"seed {given.seed}", flush=True)
    sys.exit(uvloop.run(main(given.minutes, given.seed, given.results)))
