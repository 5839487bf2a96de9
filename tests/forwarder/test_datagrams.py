"""Datagrams and Unix sockets through the bridge."""

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.bridge import bridging
from support.peers import connected, echo
from support.waiting import until
from tunnel_forwarder import udp
from tunnel_forwarder.errors import Reason
from tunnel_forwarder.protocol import datagram
from tunnel_forwarder.protocol.datagram import DatagramReader
from tunnel_forwarder.targets import Network, Target


class Peer(asyncio.DatagramProtocol):
    """A UDP socket; `echoes` sends back what comes."""

    def __init__(self, *, echoes=False):
        self.inbox = asyncio.Queue()
        self.sources = set()
        self.echoes = echoes

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.sources.add(addr)
        self.inbox.put_nowait(data)
        if self.echoes:
            self.transport.sendto(data, addr)

    async def next(self):
        async with asyncio.timeout(5):
            return await self.inbox.get()


@contextlib.asynccontextmanager
async def udp_echo():
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(
        lambda: Peer(echoes=True), local_addr=("127.0.0.1", 0)
    )
    try:
        yield transport.get_extra_info("sockname")[1], peer
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def udp_client(port):
    loop = asyncio.get_running_loop()
    transport, peer = await loop.create_datagram_endpoint(Peer, remote_addr=("127.0.0.1", port))
    try:
        yield peer
    finally:
        transport.close()


@pytest.fixture(params=[False, True], ids=["own-sockets", "shared-socket"])
def tunnel(relay, certificates, request):
    def tunnel(targets, **options):
        return bridging(relay, certificates, targets, mux=request.param, **options)

    return tunnel


def to_udp(port):
    return Target("127.0.0.1", port, Network.UDP)


async def test_each_source_has_a_stream_and_its_own_answers(tunnel):
    async with (
        udp_echo() as (port, device),
        tunnel({"dns": to_udp(port)}, udp=("dns",)) as bridge,
        udp_client(bridge.port("dns")) as one,
        udp_client(bridge.port("dns")) as two,
    ):
        for number in range(20):
            one.transport.sendto(b"one %d" % number)
            assert await one.next() == b"one %d" % number
            two.transport.sendto(b"two %d" % number)
            assert await two.next() == b"two %d" % number
        assert len(device.sources) == 2
        assert bridge.local.session.connections == 2


@pytest.mark.parametrize("size", [1, 1400, 9000, 60_000])
async def test_a_datagram_stays_whole(tunnel, size):
    async with (
        udp_echo() as (port, _),
        tunnel({"dns": to_udp(port)}, udp=("dns",)) as bridge,
        udp_client(bridge.port("dns")) as client,
    ):
        client.transport.sendto(b"x" * size)
        assert await client.next() == b"x" * size


async def test_a_source_that_says_nothing_is_let_go(tunnel):
    async with (
        udp_echo() as (port, _),
        tunnel({"dns": to_udp(port)}, udp=("dns",), udp_idle=0.1) as bridge,
        udp_client(bridge.port("dns")) as client,
    ):
        client.transport.sendto(b"x")
        assert await client.next() == b"x"
        await until(lambda: not bridge.local.session.open and not bridge.remote.session.open)
        client.transport.sendto(b"y")
        assert await client.next() == b"y"
        assert bridge.local.session.connections == 2


async def test_there_are_only_so_many_sources(tunnel):
    async with (
        udp_echo() as (port, _),
        tunnel({"dns": to_udp(port)}, udp=("dns",), max_streams=1) as bridge,
        udp_client(bridge.port("dns")) as one,
        udp_client(bridge.port("dns")) as two,
    ):
        one.transport.sendto(b"x")
        assert await one.next() == b"x"
        two.transport.sendto(b"y")
        await until(lambda: bridge.local.session.refusals[Reason.TOO_MANY_STREAMS])


async def test_a_stream_where_datagrams_are_forwarded_is_a_mismatch(tunnel):
    async with udp_echo() as (port, _), tunnel({"dns": to_udp(port)}) as bridge:
        async with connected(bridge.port("dns")) as client:
            assert await client.is_reset()
        await until(lambda: bridge.local.session.refusals)
        assert set(bridge.local.session.refusals) == {Reason.MODE_MISMATCH}


async def test_datagrams_where_a_stream_is_forwarded_are_a_mismatch(tunnel):
    async with (
        tunnel({"web": Target("127.0.0.1", 1)}, udp=("web",)) as bridge,
        udp_client(bridge.port("web")) as client,
    ):
        client.transport.sendto(b"x")
        await until(lambda: bridge.local.session.refusals)
        assert set(bridge.local.session.refusals) == {Reason.MODE_MISMATCH}


async def test_a_unix_socket_is_a_target(tunnel, tmp_path):
    path = str(tmp_path / "s")
    server = await asyncio.start_unix_server(echo, path)
    async with (
        server,
        tunnel({"echo": Target(path, 0, Network.UNIX)}) as bridge,
        connected(bridge.port()) as client,
    ):
        await client.send(b"hello")
        client.end()
        assert await client.read() == b"hello"
        await until(lambda: not bridge.local.session.open)


async def test_what_waits_for_a_stream_is_bounded():
    end = udp.DatagramEnd(lambda _: None)
    for _ in range(100):
        end.received(b"x" * 1000)
    assert end._waiting_bytes <= udp.MAX_WAITING
    assert end.dropped == 100 - udp.MAX_WAITING // 1000


@given(st.lists(st.binary(max_size=300), max_size=10), st.integers(1, 50))
def test_datagrams_are_cut_out_however_they_arrive(datagrams, step):
    data = b"".join(map(datagram.frame, datagrams))
    reader, found = DatagramReader(), []
    for at in range(0, len(data), step):
        found += reader.feed(data[at : at + step])
    assert found == datagrams
    assert not reader.holds_part
