"""Datagrams with each pair of ends that can meet, over the simulated Azure Relay."""

import asyncio
import contextlib
import ssl

import pytest

from support import azbridge
from support.azure import simulating
from support.bridge import make_settings
from support.waiting import until
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.evidence import Evidence
from tunnel_forwarder.local import LocalForwarder
from tunnel_forwarder.metrics import Histogram
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.sender import Sender
from tunnel_forwarder.session import Session
from tunnel_forwarder.targets import Network, Target
from tunnel_forwarder.transport import Dialer, tls_context


@pytest.fixture
async def azure(tmp_path):
    async with simulating(tmp_path / "azure", address="127.0.1.202") as azure:
        await azure.make_hybrid_connection("hc")
        yield azure


def plain(azure, make, *arguments, **options):
    tls, token = ssl.create_default_context(cadata=azure.authorities), azure.token("hc").reveal()
    return make(azure.endpoint.authority, tls, token, *arguments, **options)


@contextlib.asynccontextmanager
async def our_listener(azure, port):
    async with RemoteForwarder(
        endpoint=azure.endpoint,
        hybrid_connection="hc",
        token=azure.token("hc"),
        targets={"dns": Target("127.0.0.1", port, Network.UDP)},
        tls=tls_context(azure.authorities),
    ) as remote:
        await remote.wait_listening()
        yield


def their_listener(azure, port):
    return plain(azure, azbridge.Listener, {"dns": port}, udp=("dns",)).running()


@contextlib.asynccontextmanager
async def our_sender(azure):
    sender = Sender(
        make_settings(azure.endpoint, names=("dns",), udp=("dns",), warm=1),
        azure.token("hc"),
        Dialer(tls_context(azure.authorities), timeout=5),
        Evidence(),
        slots=asyncio.Semaphore(8),
    )
    histogram = Histogram()
    local = LocalForwarder(sender, Session(Clock()), set_up=histogram)
    async with local.running():
        await until(lambda: local._stands_ready)
        yield local.addresses["dns"]


def their_sender(azure):
    return plain(azure, azbridge.Sender).forwarding_datagrams("dns")


PAIRS = {
    "ours-ours": (our_sender, our_listener),
    "ours-azbridge": (our_sender, their_listener),
    "azbridge-ours": (their_sender, our_listener),
}


@contextlib.asynccontextmanager
async def echoing():
    """A UDP server that sends back what comes; the block gets its port and who has asked."""
    async with azbridge.datagrams(local_addr=("127.0.0.1", 0)) as server:
        sources = set()

        async def serve():
            while True:
                data, source = await server.inbox.get()
                sources.add(source)
                server.transport.sendto(data, source)

        serving = asyncio.create_task(serve())
        try:
            yield server.transport.get_extra_info("sockname")[1], sources
        finally:
            serving.cancel()
            await asyncio.wait([serving])


async def asked(client, data):
    client.transport.sendto(data)
    async with asyncio.timeout(5):
        return (await client.inbox.get())[0]


@pytest.mark.parametrize("pair", PAIRS)
async def test_datagrams_keep_their_bounds_and_their_sources(azure, pair):
    make_sender, make_listener = PAIRS[pair]
    async with (
        echoing() as (target, sources),
        make_listener(azure, target),
        make_sender(azure) as port,
        azbridge.datagrams(remote_addr=("127.0.0.1", port)) as one,
        azbridge.datagrams(remote_addr=("127.0.0.1", port)) as two,
    ):
        for size in (1, 255, 256, 512, 1400, 9000):
            assert await asked(one, b"1" * size) == b"1" * size
            assert await asked(two, b"2" * size) == b"2" * size
        assert one.inbox.empty()
        assert len(sources) == 2
