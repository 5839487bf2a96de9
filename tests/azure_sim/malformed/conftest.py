"""One simulation in a thread of its own for all cases, and the figures at the end."""

import asyncio
import gc
import logging
import ssl
import threading

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from support.fuzz import FIGURES, resident_bytes
from tunnel_azure_sim import AzureSim, SimConfig, Timings


class Simulation:
    """A running simulation for tests without a loop; what its loop complains of is a failure."""

    def __init__(self, directory):
        self.complaints = []
        self._directory = directory
        self._ready, self._stop = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        timings = Timings(request_head=2.0, close=0.5, rendezvous=0.5, method_second=0.01)
        config = SimConfig.for_tests(self._directory, timings=timings)
        async with AzureSim(config) as self.sim:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(20)
        endpoints = self.sim.endpoints
        self.context = ssl.create_default_context(cafile=str(endpoints.ca_file))
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    def address(self, url):
        """Return host and port of one of the simulation's URLs."""
        host, _, port = url.partition("://")[2].rstrip("/").rpartition(":")
        return host, int(port)

    @property
    def relay(self):
        return self.address(self.sim.endpoints.relay[0].endpoint)

    @property
    def arm(self):
        return self.address(self.sim.endpoints.arm_base_url)

    @property
    def identity(self):
        return self.address(self.sim.endpoints.authority_host)

    @property
    def hub(self):
        return self.address("https://" + self.sim.endpoints.hubs[0].host_name)

    @property
    def mqtt(self):
        return self.relay[0], 8883


class Errors(logging.Filter):
    """Collects the exceptions that libraries log, such as a handler's, and keeps the records from others.

    pytest would hold each of them with its traceback and the request in that, and the figure of the memory
    would be pytest's.
    """

    loggers = ("aiohttp.server", "aiohttp.web", "asyncio", "picows.relay")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __enter__(self):
        for name in self.loggers:
            logging.getLogger(name).addFilter(self)
        return self

    def __exit__(self, *_):
        for name in self.loggers:
            logging.getLogger(name).removeFilter(self)

    def filter(self, record):
        kind = record.exc_info[0] if record.exc_info else None
        # aiohttp logs this one of each request that it could not read, and answers 400.
        if kind is not None and not issubclass(kind, HttpProcessingError):
            self.seen.append(f"{record.getMessage()}: {record.exc_info}")
        return False


@pytest.fixture(scope="session")
def simulation(tmp_path_factory):
    with Simulation(tmp_path_factory.mktemp("azure")) as running:
        gc.collect()
        FIGURES.rss_before = resident_bytes()
        yield running


@pytest.fixture(scope="session")
def errors():
    return Errors()


@pytest.fixture(autouse=True)
def watched(simulation, errors):  # noqa: ARG001 - its memory is part of the figure
    """Collect what is logged while a test of this folder runs; other tests' errors are theirs."""
    with errors:
        yield
    FIGURES.rss_after = resident_bytes()


def pytest_terminal_summary(terminalreporter):
    if FIGURES.cases:
        before, after = FIGURES.rss_before >> 20, FIGURES.rss_after >> 20
        terminalreporter.write_line(
            f"malformed input: {FIGURES.cases} cases in {FIGURES.seconds:.1f} s, "
            f"resident memory {before} MiB before and {after} MiB after"
        )
