"""Real programs through a tunnel on this machine; each test says which Debian packages it needs."""

import asyncio
import contextlib
import itertools
import shutil
import socket
import time

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from support.azure import simulating
from support.bridge import make_settings
from support.waiting import until
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.evidence import Evidence
from tunnel_forwarder.local import LocalForwarder
from tunnel_forwarder.metrics import make_set_up_histogram
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.sender import Sender
from tunnel_forwarder.session import Session
from tunnel_forwarder.targets import Network, Target
from tunnel_forwarder.transport import Dialer, tls_context

_addresses = itertools.count(50)


def pytest_asyncio_loop_factories(item):  # noqa: ARG001 - pytest's signature
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "programs":
            item.add_marker(pytest.mark.programs)
            item.add_marker(pytest.mark.timeout(1800))


FIGURES = pytest.StashKey()


@pytest.fixture
def figure(request):
    """Notes a figure, which is printed when all tests are over."""
    figures = request.config.stash.setdefault(FIGURES, [])
    return lambda text: figures.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash.get(FIGURES, [])
    if figures:
        terminalreporter.section("figures, all of the bridge in one process")
        terminalreporter.write_line("\n".join(figures))


@pytest.fixture
def needs():
    def needs(*programs):
        for program in programs:
            if shutil.which(program, path="/usr/bin:/usr/sbin:/bin:/sbin") is None:
                pytest.skip(f"{program} is not installed")

    return needs


@pytest.fixture
def free_port():
    def free_port():
        """A port that is free for TCP and for UDP: DNS servers want both."""
        while True:
            with (
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
                socket.socket(socket.AF_INET, socket.SOCK_STREAM) as streams,
            ):
                streams.bind(("127.0.0.1", 0))
                port = streams.getsockname()[1]
                try:
                    datagrams.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port

    return free_port


class Run:
    """Programs of one test: `run` waits for one, `start` leaves it running until the test ends."""

    def __init__(self, folder):
        self.folder = folder
        self._running = []

    async def run(self, *argv, **options):
        process = await asyncio.create_subprocess_exec(
            *map(str, argv),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **options,
        )
        async with asyncio.timeout(900):
            output, _ = await process.communicate()
        assert process.returncode == 0, f"{argv}: {output.decode(errors='replace')}"
        return output.decode(errors="replace")

    async def timed(self, *argv, **options):
        """Run a program; return how many seconds it took."""
        began = time.perf_counter()
        await self.run(*argv, **options)
        return time.perf_counter() - began

    async def start(self, *argv, port=None, **options):
        with (self.folder / "started.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *map(str, argv), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
        self._running.append(process)
        if port is not None:
            await until(lambda: listens(port), within=20, what=f"{argv[0]} listens")

    async def stop(self):
        for process in self._running:
            if process.returncode is None:
                process.terminate()
        for process in self._running:
            await process.wait()


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(params=[False, True], ids=["own-sockets", "shared-socket"])
def tunnel(request, tmp_path):
    """A tunnel to targets of this machine; the block gets the ports by name."""

    @contextlib.asynccontextmanager
    async def tunnel(*, udp=(), **targets):
        address = f"127.0.2.{next(_addresses)}"
        async with simulating(tmp_path / "azure", address=address) as azure:
            await azure.make_hybrid_connection("hc")
            sender = Sender(
                make_settings(
                    azure.endpoint, names=tuple(targets), warm=1, mux=request.param, udp=udp
                ),
                azure.token("hc"),
                Dialer(tls_context(azure.authorities)),
                Evidence(),
                slots=asyncio.Semaphore(16),
            )
            local = LocalForwarder(
                sender, Session(Clock()), set_up=make_set_up_histogram(CollectorRegistry())
            )
            remote = RemoteForwarder(
                endpoint=azure.endpoint,
                hybrid_connection="hc",
                token=azure.token("hc"),
                targets={
                    name: Target("127.0.0.1", port, Network.UDP if name in udp else Network.TCP)
                    for name, port in targets.items()
                },
                tls=tls_context(azure.authorities),
            )
            async with remote, local.running():
                await until(lambda: local._stands_ready)
                yield local.addresses
            # What is reset says so first: the sockets close a moment later than the forwarders.
            await until(lambda: not sender.dialer._open and not remote._dialer._open)
            assert not local.session.refusals

    return tunnel


@pytest.fixture
async def programs(tmp_path):
    run = Run(tmp_path)
    yield run
    await run.stop()
