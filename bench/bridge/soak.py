"""The bridge for a long time, with random faults: `make soak`.

Clients do what clients do, the relay what relays do: it drops streams and listeners, refuses, stalls. A
stream must deliver exactly its bytes and an orderly end, or a reset; when it is over, nothing may be left:
no stream, no task, no file. Exit code 0 says that all of it held.
"""

import argparse
import asyncio
import contextlib
import gc
import hashlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog
import uvloop

from support.bridge import make_local, make_remote
from support.certificates import make_certificates
from support.peers import connected, echo, listening
from support.relay import FakeRelay, abort
from support.waiting import until

MIB = 1 << 20
CLIENTS = 12


class Soak:
    """The whole of it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - faults, not keys
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    async def client(self, ports: list[int], end: float) -> None:
        """Use the tunnels until the end."""
        while time.monotonic() < end:
            port, kind = self.random.choice(ports), self.random.choice(["small", "large", "leave"])
            try:
                async with asyncio.timeout(60):
                    self.counts[await self._use(port, kind)] += 1
            except TimeoutError:
                self.wrong.append(f"a {kind} stream hangs")
            except OSError:
                self.counts["reset"] += 1
                await asyncio.sleep(self.random.random() / 10)

    async def _use(self, port: int, kind: str) -> str:
        size = self.random.randrange(1, 4000 if kind == "small" else 2 * MIB)
        data = self.random.randbytes(size)
        async with connected(port, limit=MIB) as client:
            if kind == "leave":
                await client.send(data[: size // 2])
                client.reset()
                return "left"
            sending = asyncio.create_task(self._send(client, data))
            try:
                received = await client.reader.read()
            finally:
                sending.cancel()
                await asyncio.wait([sending])
            if hashlib.sha256(received).digest() != hashlib.sha256(data).digest():
                whole = "differs" if len(received) == size else f"{len(received)} of {size} bytes"
                self.wrong.append(f"a {kind} stream ended in order with what was not sent: {whole}")
        return "good"

    @staticmethod
    async def _send(client: object, data: bytes) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            await client.send(data)  # type: ignore[attr-defined]
            client.end()  # type: ignore[attr-defined]

    async def faults(self, relay: FakeRelay, end: float) -> None:
        """Make trouble until the end, then none."""
        while time.monotonic() < end:
            await asyncio.sleep(self.random.uniform(0.2, 3))
            fault = self.random.choice(["streams", "listeners", "refuse", "stall", "one"])
            self.counts[f"fault: {fault}"] += 1
            match fault:
                case "streams":
                    await relay.drop_streams()
                case "listeners":
                    await relay.drop_listeners()
                case "one":
                    for pair in list(relay.streams)[:1]:
                        abort(pair[0])
                case "refuse":
                    relay.refuse_connect = self.random.choice([401, 404, 500, 503])
                    await asyncio.sleep(self.random.random())
                    relay.refuse_connect = None
                case "stall":
                    relay.hold_connect.clear()
                    await asyncio.sleep(self.random.random())
                    relay.hold_connect.set()


def resident() -> float:
    """Return this process's resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def files() -> int:
    """Return how many files are open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def main(minutes: float, seed: int) -> int:
    """Soak, report, and return the exit code."""
    soak, memory = Soak(seed), []
    with tempfile.TemporaryDirectory() as folder:
        certificates = make_certificates(Path(folder))
        async with (
            FakeRelay().running(certificates.server) as relay,
            listening(echo, limit=MIB) as to,
        ):
            tasks_before, files_before = len(asyncio.all_tasks()), files()
            local = make_local(relay, certificates, warm=2)
            shared = make_local(relay, certificates, warm=1, mux=True)
            async with (
                make_remote(relay, certificates, {"echo": to}) as remote,
                local.running(),
                shared.running(),
            ):
                end = time.monotonic() + minutes * 60
                ports = [local.addresses["echo"], shared.addresses["echo"]]
                async with asyncio.TaskGroup() as group:
                    group.create_task(soak.faults(relay, end))
                    for _ in range(CLIENTS):
                        group.create_task(soak.client(ports, end))
                    while time.monotonic() < end:
                        await asyncio.sleep(min(5.0, minutes * 6))
                        memory.append(resident())
                        _show(soak, memory)
                for forwarder in (local, shared, remote):
                    await until(lambda f=forwarder: not f.session.open, within=30)
            gc.collect()
            left = len(asyncio.all_tasks()) - tasks_before
            with contextlib.suppress(AssertionError):
                await until(lambda: files() <= files_before + 2, within=10)
            _judge(soak, memory, tasks=left, open_files=files() - files_before)
    return 1 if soak.wrong else 0


def _judge(soak: Soak, memory: list[float], *, tasks: int, open_files: int) -> None:
    quarter = max(1, len(memory) // 4)
    growth = max(memory[-quarter:]) - max(memory[: 2 * quarter])
    # Tasks of the relay's and the target's own last connections may still be on their way out.
    for what, value, limit in (
        ("tasks left", tasks, 5),
        ("files left", open_files, 5),
        ("MiB grown from the first half to the last quarter", growth, 20),
    ):
        print(f"{what}: {value:.0f}")
        if value > limit:
            soak.wrong.append(f"{what}: {value:.0f}")
    for sentence in soak.wrong[:20]:
        print(f"WRONG: {sentence}")
    print(f"{dict(soak.counts)}; {len(soak.wrong)} wrong")


def _show(soak: Soak, memory: list[float]) -> None:
    print(f"{memory[-1]:.0f} MiB {dict(soak.counts)} wrong {len(soak.wrong)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    sys.exit(uvloop.run(main(given.minutes, given.seed)))
