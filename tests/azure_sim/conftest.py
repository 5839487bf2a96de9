"""A running simulation, and clients of it that do only what they are told."""

import asyncio
import gc
import shutil
import ssl
import time
from dataclasses import replace

import aiohttp
import pytest

from support.raw_hub import HubRest, Mqtt
from support.raw_relay import Relay
from support.raw_websocket import Dialler
from tunnel_azure_sim import AzureSim, SimConfig, Timings


class Clock:
    """The true time, moved. Expiry is in whole seconds, so a test moves to shortly before one."""

    def __init__(self):
        self._offset = 0.0

    def __call__(self):
        return time.time() + self._offset

    def forward(self, seconds):
        self._offset += seconds

    def soon(self, seconds=0.2):
        """Return an expiry that is so far ahead, having moved the clock to fit."""
        expiry = int(self()) + 2
        self._offset += expiry - seconds - self()
        return expiry


@pytest.fixture(scope="session")
def state_template(tmp_path_factory):
    """A state directory in which the slow keys are made once for all tests."""
    directory = tmp_path_factory.mktemp("azure")

    async def start_once():
        async with AzureSim(SimConfig.for_tests(directory)):
            pass

    asyncio.run(start_once())
    return directory


@pytest.fixture
def state_dir(state_template, tmp_path):
    return shutil.copytree(state_template, tmp_path / "azure")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timings(request):
    return Timings(**({"close": 1.0, "method_second": 0.05} | getattr(request, "param", {})))


@pytest.fixture
def one_way_close(request):
    return getattr(request, "param", True)


@pytest.fixture
async def sim(state_dir, timings, clock, one_way_close):
    config = SimConfig.for_tests(state_dir, timings=timings, clock=clock)
    config = replace(config, one_way_close=one_way_close)
    failures = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    async with AzureSim(config) as running:
        yield running
    loop.set_exception_handler(None)
    assert failures == []


@pytest.fixture
async def dialler():
    """Return a maker of clients of any address."""
    made = []

    def make(context, host, port):
        made.append(Dialler(context, host, port))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
def trust(sim):
    return ssl.create_default_context(cafile=str(sim.endpoints.ca_file))


@pytest.fixture
async def relay(sim, trust, clock):
    made = Relay(sim, trust, clock)
    yield made
    await made.aclose()


@pytest.fixture
async def http(trust):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust)) as session:
        yield session


@pytest.fixture
async def mqtt(sim, trust, clock):
    made = Mqtt(sim, trust, clock)
    yield made
    await made.aclose()


@pytest.fixture
def no_collection():
    """Garbage is not looked for, so that what is freed is so by itself."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def rest(sim, http, clock):
    return HubRest(sim, http, clock)
