"""The whole way of a stream: client, local forwarder, relay, remote forwarder, target; all over TLS."""

import asyncio
import contextlib
import hashlib
import os

import pytest

from support.bridge import bridging
from support.peers import connected, echo, listening, reset
from support.waiting import until
from tunnel_forwarder.protocol.mux import MAX_WINDOW

MIB = 1 << 20


@pytest.fixture(params=[False, True], ids=["own-sockets", "shared-socket"])
def mux(request):
    return request.param


@pytest.fixture
def bridge(relay, certificates, mux):
    return lambda targets, **options: bridging(relay, certificates, targets, mux=mux, **options)


@pytest.fixture
def through(bridge):
    """A client of a tunnel that leads to what `serve` does."""

    @contextlib.asynccontextmanager
    async def through(serve, **options):
        async with (
            listening(serve) as target,
            bridge({"echo": target}, **options) as tunnel,
            connected(tunnel.port(), limit=MIB) as client,
        ):
            yield client, tunnel

    return through


async def test_bytes_go_both_ways_and_the_totals_are_right(through):
    async with through(echo, warm=1) as (client, tunnel):
        await client.send(b"hello")
        assert await client.read(5) == b"hello"
        client.end()
        assert await client.read() == b""
        await until(lambda: not tunnel.local.session.open)
        for session in (tunnel.local.session, tunnel.remote.session):
            assert (session.connections, session.bytes_in, session.bytes_out) == (1, 5, 5)


async def test_the_client_may_end_first_and_still_read(through):
    async def answer_at_the_end(reader, writer):
        question = await reader.read()
        writer.write(b"answer to " + question)
        writer.write_eof()
        await writer.wait_closed()

    async with through(answer_at_the_end) as (client, _):
        await client.send(b"question")
        client.end()
        assert await client.read() == b"answer to question"


async def test_the_target_may_end_first_and_still_read(through):
    received = asyncio.get_running_loop().create_future()

    async def greet_and_listen(reader, writer):
        writer.write(b"greeting")
        writer.write_eof()
        received.set_result(await reader.read())

    async with through(greet_and_listen) as (client, _):
        assert await client.read() == b"greeting"
        await client.send(b"late words")
        client.end()
        async with asyncio.timeout(5):
            assert await received == b"late words"


async def test_a_target_that_speaks_first_is_heard(through):
    async def banner(reader, writer):
        writer.write(b"SSH-2.0-test\r\n")
        await writer.drain()
        await reader.read()

    async with through(banner, warm=1) as (client, _):
        assert await client.read(14) == b"SSH-2.0-test\r\n"


async def test_a_reset_by_the_client_is_one_at_the_target(through):
    ending = asyncio.get_running_loop().create_future()

    async def watch(reader, writer):
        writer.write(b"x")
        try:
            ending.set_result(await reader.read())
        except ConnectionResetError:
            ending.set_result("reset")

    async with through(watch) as (client, tunnel):
        await client.read(1)
        client.reset()
        async with asyncio.timeout(5):
            assert await ending == "reset"
        await until(lambda: not tunnel.remote.session.open)


async def test_a_reset_by_the_target_is_one_at_the_client(through):
    async def refuse_to_go_on(reader, writer):
        await reader.readexactly(1)
        reset(writer)

    async with through(refuse_to_go_on) as (client, _):
        await client.send(b"x")
        assert await client.is_reset()


async def test_a_lost_relay_connection_is_a_reset_at_both_ends(through, relay):
    ending = asyncio.get_running_loop().create_future()

    async def watch(reader, _writer):
        try:
            ending.set_result(await reader.read())
        except ConnectionResetError:
            ending.set_result("reset")

    async with through(watch) as (client, tunnel):
        await until(lambda: relay.streams and tunnel.local.session.open)
        await relay.drop_streams()
        assert await client.is_reset()
        async with asyncio.timeout(5):
            assert await ending == "reset"


@pytest.mark.parametrize("warm", [0, 1])
async def test_much_goes_both_ways_at_once_unharmed(through, warm):
    data = os.urandom(8 * MIB)
    async with through(echo, warm=warm) as (client, _):
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(client.send(data))
            sending.add_done_callback(lambda _: client.end())
            received = tasks.create_task(client.read())
        assert hashlib.sha256(received.result()).digest() == hashlib.sha256(data).digest()


async def test_single_bytes_arrive_one_by_one(through):
    async with through(echo) as (client, _):
        for value in range(200):
            await client.send(bytes([value]))
            assert await client.read(1) == bytes([value])


async def test_a_stopped_reader_stops_its_sender_and_nobody_else(bridge, mux):
    """The sender gets stuck after what the buffers on the way hold, and another stream runs on."""
    async with (
        listening(echo) as echoing,
        listening(_endless) as endless,
        bridge({"echo": echoing, "endless": endless}) as tunnel,
        connected(tunnel.port("endless"), limit=1024) as stuck,
    ):
        await until(lambda: tunnel.local.session.open)
        (stuck_there,) = tunnel.local.session.open
        (stuck_here,) = tunnel.remote.session.open
        carried = -1
        while carried != stuck_here.from_tcp.bytes:
            carried = stuck_here.from_tcp.bytes
            async with connected(tunnel.port()) as other:
                for _ in range(50):
                    await other.send(b"x" * 1000)
                    assert await other.read(1000) == b"x" * 1000
        # Kernel buffers of six sockets, and 128 KiB at each of four ends of ours. A shared socket is
        # always read: what one stream may have on its way, a window, is then held at the end.
        assert carried < 64 * MIB
        held = stuck_there._tcp._transport.get_write_buffer_size()
        assert held < MIB + (MAX_WINDOW if mux else 0)
        if mux:
            assert stuck_here._link._session.mux._streams[1].pending_bytes < MIB
        else:
            assert stuck_here._link._transport.underlying_transport.get_write_buffer_size() < MIB
        # It was only stopped: nothing is lost.
        assert await stuck.read(4 * MIB) == b"e" * (4 * MIB)


async def _endless(_reader, writer):
    while True:
        writer.write(b"e" * 65536)
        await writer.drain()


async def test_many_streams_at_once(bridge):
    async def one(port, number):
        async with connected(port) as client:
            await client.send(b"%d" % number)
            client.end()
            assert await client.read() == b"%d" % number

    async with listening(echo, backlog=200) as target, bridge({"echo": target}, warm=2) as tunnel:
        async with asyncio.TaskGroup() as tasks:
            for number in range(100):
                tasks.create_task(one(tunnel.port(), number))
        await until(lambda: not tunnel.local.session.open)
        assert tunnel.local.session.connections == 100
        assert not tunnel.local.session.refusals


async def test_ipv6_clients_are_served(bridge):
    async with listening(echo) as target, bridge({"echo": target}) as tunnel:
        try:
            context = connected(tunnel.port(), host="::1")
            client = await context.__aenter__()
        except OSError:
            pytest.skip("no IPv6 here")
        await client.send(b"six")
        assert await client.read(3) == b"six"
        await context.__aexit__(None, None, None)
