"""Many streams in one socket: what a tunnel costs, what a refusal does, and peers that know no such mode."""

import asyncio
import socket

import pytest

from support.bridge import bridging, listening_device, make_local, make_remote
from support.peers import connected, echo, listening
from support.waiting import until
from tunnel_forwarder.errors import Reason
from tunnel_forwarder.keeper import MuxKeeper
from tunnel_forwarder.protocol.mux import WINDOW
from tunnel_forwarder.remote import RemoteLimits
from tunnel_forwarder.targets import Target
from tunnel_forwarder.warm import WarmPool


@pytest.fixture
def bridge(relay, certificates):
    return lambda targets, **options: bridging(
        relay, certificates, targets, **({"mux": True} | options)
    )


async def exchange(client, text=b"hello"):
    await client.send(text)
    assert await client.read(len(text)) == text


async def refusal(local, name="echo"):
    before = local.session.refusals.copy()
    async with connected(local.addresses[name]) as client:
        assert await client.is_reset()
    await until(lambda: local.session.refusals != before)
    (reason,) = local.session.refusals - before
    return reason


async def test_all_streams_share_one_rendezvous(bridge, relay):
    async with listening(echo) as target, bridge({"echo": target}) as tunnel:
        assert tunnel.local.ready
        for _ in range(20):
            async with connected(tunnel.port()) as client:
                await exchange(client)
        assert relay.dials == 1
        assert tunnel.local.session.connections == 20
        assert len(tunnel.local.pool) == 0


async def test_refusals_are_told_apart_and_cost_no_other_stream(bridge):
    with socket.create_server(("127.0.0.1", 0)) as free:
        closed = free.getsockname()[1]
    targets = {"closed": closed}
    async with (
        listening(echo) as target,
        bridge(targets | {"echo": target}, names=("echo", "closed", "unknown")) as tunnel,
        connected(tunnel.port()) as client,
    ):
        await exchange(client)
        assert await refusal(tunnel.local, "closed") is Reason.TARGET_REFUSED
        assert await refusal(tunnel.local, "unknown") is Reason.UNKNOWN_PORT
        await exchange(client)
        assert tunnel.local.session.connections == 1


async def test_the_answer_to_a_question_takes_one_round_trip(bridge):
    """The client's bytes travel with the request: they are there before the target has been opened."""
    asked = asyncio.Event()

    async def answer(reader, writer):
        writer.write(await reader.readexactly(8))
        asked.set()
        await reader.read()

    async with listening(answer) as target, bridge({"echo": target}) as tunnel:
        session = tunnel.local.mux.session
        frames = []
        write = session.link.write
        session.link.write = lambda message: (frames.append(bytes(message)), write(message))
        async with connected(tunnel.port()) as client:
            await client.send(b"question")
            assert await client.read(8) == b"question"
        assert [frame[0] for frame in frames[:2]] == [1, 4]  # OPEN, DATA


async def test_what_waits_for_a_slow_target_is_bounded_and_goes_on(bridge, monkeypatch):
    """A whole window is there before the target is: its credit must be given back then."""
    asked, opened, connect = asyncio.Event(), asyncio.Event(), Target.connect

    async def connect_later(target, *, within):
        asked.set()
        await opened.wait()
        return await connect(target, within=within)

    async def swallow(reader, writer):
        await reader.readexactly(8 * WINDOW)
        writer.write(b"done")
        await reader.read()

    monkeypatch.setattr(Target, "connect", connect_later)
    async with (
        listening(swallow) as target,
        bridge({"echo": target}) as tunnel,
        connected(tunnel.port(), limit=1 << 22) as client,
    ):
        sending = asyncio.create_task(client.send(b"x" * 8 * WINDOW))
        await asked.wait()
        theirs = tunnel.remote._receiver._sessions
        await until(lambda: next(iter(theirs)).mux._streams[1].receivable == 0)
        (stream,) = next(iter(theirs))._streams.values()
        assert sum(map(len, stream._inbox)) == WINDOW
        opened.set()
        assert await client.read(4) == b"done"
        await sending


async def test_a_client_that_leaves_at_once_leaves_nothing_behind(bridge):
    async with listening(echo) as target, bridge({"echo": target}) as tunnel:
        for _ in range(20):
            async with connected(tunnel.port()) as client:
                client.reset()
        await until(lambda: not tunnel.local._streams and not tunnel.remote.session.open)
        assert tunnel.local.mux.session.streams == 0
        assert tunnel.local.mux.session.mux.streams == 0


async def test_a_device_that_knows_no_such_mode_gets_a_socket_for_each(relay, certificates):
    local = make_local(relay, certificates, mux=True, warm=1)
    remote = make_remote(relay, certificates, {}, mux=False)
    async with listening(echo) as target, remote, local.running():
        remote.update(targets=make_targets(target), expires_at=None)
        await until(lambda: len(local.pool) == 1)
        assert local.mux.session is None
        async with connected(local.addresses["echo"]) as client:
            await exchange(client)
        assert not local.session.refusals


def make_targets(port):
    return {"echo": Target("127.0.0.1", port)}


async def test_a_device_that_has_learnt_the_mode_is_asked_again(relay, certificates):
    async with listening(echo) as target:
        local = make_local(relay, certificates, mux=True, warm=1)
        local.mux.try_again = 0.05
        local.mux.retry = (0.01,)
        async with local.running():
            async with make_remote(relay, certificates, {"echo": target}, mux=False):
                await until(lambda: len(local.pool) == 1)
            async with listening_device(relay, certificates, {"echo": target}):
                await until(lambda: local.mux.session is not None)


async def test_a_lost_socket_is_replaced_and_meanwhile_streams_get_their_own(bridge, relay):
    async with listening(echo) as target, bridge({"echo": target}) as tunnel:
        tunnel.local.mux.retry = (0.01,)
        first = tunnel.local.mux.session
        relay.hold_connect.clear()
        await relay.drop_streams()
        await until(lambda: tunnel.local.mux.session is None)
        async with connected(tunnel.port()) as client:
            await client.send(b"x")
            relay.hold_connect.set()
            assert await client.read(1) == b"x"
        await until(lambda: tunnel.local.mux.session not in (None, first))
        async with connected(tunnel.port()) as client:
            await exchange(client)


async def test_a_peer_that_breaks_the_protocol_loses_the_socket_and_nothing_else(bridge):
    async with listening(echo) as target, bridge({"echo": target}) as tunnel:
        first = tunnel.local.mux.session
        async with connected(tunnel.port()) as client:
            await exchange(client)
            first.link.write(b"\xff" * 8)
            assert await client.is_reset()
        await until(lambda: tunnel.local.mux.session not in (None, first))
        async with connected(tunnel.port()) as client:
            await exchange(client)


async def test_a_device_that_goes_away_lets_streams_end(bridge):
    async with listening(echo) as target, bridge({"echo": target}) as tunnel:
        first = tunnel.local.mux.session
        async with connected(tunnel.port()) as client:
            await exchange(client)
            (theirs,) = tunnel.remote._receiver._sessions
            theirs.retire()
            await until(lambda: tunnel.local.mux.session not in (None, first))
            await exchange(client)
            client.end()
            assert await client.read() == b""
        await until(lambda: not first.link.connected)
        async with connected(tunnel.port()) as client:
            await exchange(client)


async def test_the_device_bounds_the_streams_of_a_socket(relay, certificates):
    limits = RemoteLimits(mux_streams=1)
    local = make_local(relay, certificates, mux=True)
    async with listening(echo) as target:
        remote = make_remote(relay, certificates, {"echo": target}, limits=limits)
        async with remote, local.running():
            await until(lambda: local.mux.session is not None)
            async with connected(local.addresses["echo"]) as client:
                await exchange(client)
                assert await refusal(local) is Reason.TOO_MANY_STREAMS


async def test_streams_end_with_the_forwarder(relay, certificates):
    local = make_local(relay, certificates, mux=True)
    async with (
        listening(echo) as target,
        listening_device(relay, certificates, {"echo": target}) as remote,
    ):
        async with local.running():
            await until(lambda: local.mux.session is not None)
            client_context = connected(local.addresses["echo"])
            client = await client_context.__aenter__()
            await exchange(client)
        assert await client.is_reset()
        await client_context.__aexit__(None, None, None)
        await until(lambda: not remote.session.open)


async def test_it_keeps_trying_while_there_is_no_listener(relay, certificates):
    local = make_local(relay, certificates, mux=True)
    local.mux.retry = (0.01,)
    assert isinstance(local.mux, MuxKeeper)
    assert isinstance(local.pool, WarmPool)
    async with local.running():
        await until(lambda: relay.dials >= 3)
        assert not local.ready
        assert await refusal(local) is Reason.NO_LISTENER
