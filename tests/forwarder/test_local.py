"""The local forwarder: refusals, warm connections and readiness."""

import asyncio
import errno
import socket
from dataclasses import replace

import pytest
import structlog

from support.bridge import bridging, listening_device, make_local
from support.peers import connected, echo, listening
from support.waiting import until
from tunnel_forwarder.errors import LinkLostError, Reason
from tunnel_forwarder.protocol.preamble import Mode, Refusal, acceptance
from tunnel_forwarder.receiver import Receiver
from tunnel_forwarder.transport import tls_context
from tunnel_forwarder.warm import WarmPool


@pytest.fixture
def bridge(relay, certificates):
    return lambda targets, **options: bridging(relay, certificates, targets, **options)


def quick_pool(size, **options):
    return lambda sender: WarmPool(sender.rendezvous, size, retry=(0.01,), **options)


async def refusal(local, name="echo"):
    """Reset a client is what must come of it; return the reason that was counted."""
    before = local.session.refusals.copy()
    async with connected(local.addresses[name]) as client:
        assert await client.is_reset()
    (reason,) = local.session.refusals - before
    return reason


async def test_an_unknown_port_name_is_refused(bridge):
    async with bridge({}, names=("nowhere",)) as tunnel:
        assert await refusal(tunnel.local, "nowhere") is Reason.UNKNOWN_PORT
        assert tunnel.local.session.connections == 0


async def test_a_refused_target_is_told_from_an_empty_answer(bridge):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def nothing(_reader, _writer):
        return

    async with listening(nothing) as empty, bridge({"refused": port, "empty": empty}) as tunnel:
        assert await refusal(tunnel.local, "refused") is Reason.TARGET_REFUSED
        assert tunnel.local.session.connections == 0


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, Reason.NO_LISTENER),
        (401, Reason.UNAUTHORIZED),
        (403, Reason.UNAUTHORIZED),
        (500, Reason.DIAL_REFUSED),
    ],
)
async def test_the_relays_refusals_are_told_apart(relay, certificates, status, reason):
    relay.refuse_connect = status
    local = make_local(relay, certificates, pool=quick_pool(0))
    async with local.running():
        assert await refusal(local) is reason
        assert not local.ready
        assert str(status) in local.why


async def test_a_relay_that_does_not_answer_is_given_up(relay, certificates):
    relay.hold_connect.clear()
    local = make_local(relay, certificates, dial_timeout=0.2)
    async with local.running():
        assert await refusal(local) is Reason.DIAL_TIMEOUT


async def test_a_relay_that_is_not_there_is_unreachable(relay, certificates):
    with socket.create_server(("127.0.0.1", 0)) as free:
        relay.endpoint = type(relay.endpoint)("127.0.0.1", free.getsockname()[1])
    local = make_local(relay, certificates)
    async with local.running():
        assert await refusal(local) is Reason.UNREACHABLE


async def test_a_relay_with_a_foreign_certificate_is_not_spoken_to(relay, certificates):
    trusting_nobody = replace(certificates, client=tls_context())
    local = make_local(relay, trusting_nobody)
    async with local.running():
        assert await refusal(local) is Reason.UNREACHABLE
    assert not relay.tokens


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Refusal.WANTS_DATAGRAM.value, Reason.MODE_MISMATCH),
        (Refusal.WANTS_STREAM.value, Reason.MODE_MISMATCH),
        (Refusal.UNSUPPORTED.value, Reason.UNSUPPORTED),
        (b"HTTP", Reason.UNSUPPORTED),
    ],
)
async def test_the_devices_refusals_are_told_apart(bridge, monkeypatch, answer, reason):
    async def refuse(_self, link, _log):
        await link.read()
        link.write(answer)

    monkeypatch.setattr(Receiver, "_serve", refuse)
    async with bridge({}, names=("echo",)) as tunnel:
        assert await refusal(tunnel.local) is reason


async def test_too_many_streams_are_refused(bridge):
    async with (
        listening(echo) as target,
        bridge({"echo": target}, max_streams=1) as tunnel,
        connected(tunnel.port()) as client,
    ):
        await client.send(b"x")
        await client.read(1)
        assert await refusal(tunnel.local) is Reason.TOO_MANY_STREAMS
        client.end()
        await client.read()
        await until(lambda: not tunnel.local._streams)
        async with connected(tunnel.port()) as second:
            await second.send(b"x")
            assert await second.read(1) == b"x"


async def test_warm_connections_are_made_used_and_made_again(bridge, relay):
    async with listening(echo) as target, bridge({"echo": target}, warm=2) as tunnel:
        local = tunnel.local
        await until(lambda: len(local.pool) == 2)
        assert local.ready
        assert relay.dials == 2
        async with connected(tunnel.port()) as client:
            await client.send(b"x")
            assert await client.read(1) == b"x"
            await until(lambda: len(local.pool) == 2)
            assert relay.dials == 3
        assert tunnel.remote.session.connections == 1


async def test_a_warm_connection_that_the_peer_ends_is_replaced(relay, certificates):
    local = make_local(relay, certificates, pool=quick_pool(1))
    async with listening_device(relay, certificates, {}), local.running():
        await until(lambda: len(local.pool) == 1)
        dials = relay.dials
        await relay.drop_streams()
        await until(lambda: relay.dials > dials and len(local.pool) == 1)
        assert local.ready


async def test_an_old_warm_connection_is_replaced(relay, certificates):
    local = make_local(relay, certificates, pool=quick_pool(1, max_age=0.05))
    async with listening_device(relay, certificates, {}), local.running():
        await until(lambda: relay.dials >= 4)
        await until(lambda: len(relay.streams) <= 2)


async def greet(reader, writer):
    """A target that speaks first, as SSH does."""
    writer.write(b"hello")
    await echo(reader, writer)


def dies_when_used(relay, tunnel):
    """Have the device's end die at the moment of use, when the pool can not know yet."""
    (pair,) = relay.streams
    link = next(iter(tunnel.local.pool._idle))
    link.write = lambda _: pair[1]._req.transport.abort()


async def test_a_stale_warm_connection_costs_a_client_that_listens_first_nothing(bridge, relay):
    async with listening(greet) as target, bridge({"echo": target}, warm=1) as tunnel:
        await until(lambda: len(tunnel.local.pool) == 1)
        dies_when_used(relay, tunnel)
        async with connected(tunnel.port()) as client:
            assert await client.read(5) == b"hello"
        assert not tunnel.local.session.refusals
        assert tunnel.local.session.connections == 1


async def test_bytes_that_have_travelled_on_a_stale_connection_are_never_sent_twice(bridge, relay):
    heard = []

    async def note(reader, writer):
        heard.append(await reader.read())
        writer.close()

    async with listening(note) as target, bridge({"echo": target}, warm=1) as tunnel:
        await until(lambda: len(tunnel.local.pool) == 1)
        link = next(iter(tunnel.local.pool._idle))
        write, (pair,) = link.write, relay.streams

        def lose_the_answer(chunk):
            write(chunk)
            if chunk == b"once":
                pair[0]._req.transport.abort()

        link.write = lose_the_answer
        async with connected(tunnel.port()) as client:
            await client.send(b"once")
            with pytest.raises(ConnectionResetError):
                await client.read(1)
        assert tunnel.local.session.refusals == {Reason.LINK_LOST: 1}
        await until(lambda: len(tunnel.local.pool) == 1)
        assert heard in ([], [b""], [b"once"])


async def test_a_silent_warm_connection_costs_a_client_that_listens_first_a_moment(
    bridge, monkeypatch
):
    monkeypatch.setattr("tunnel_forwarder.local.WARM_REPLY_SECONDS", 0.1)
    async with listening(greet) as target, bridge({"echo": target}, warm=1) as tunnel:
        await until(lambda: len(tunnel.local.pool) == 1)
        link = next(iter(tunnel.local.pool._idle))
        link.write = lambda _: None
        async with connected(tunnel.port()) as client:
            assert await client.read(5) == b"hello"


@pytest.mark.parametrize("warm", [0, 1])
async def test_a_clients_first_bytes_do_not_wait_for_the_answer(bridge, monkeypatch, warm):
    """A listener that answers only when it has heard the client, which a sender that waits never does."""

    async def answer_last(_self, link, _log):
        heard = b""
        while data := await link.read():
            heard += data
            if heard.endswith(b"question"):
                link.write(acceptance(Mode.STREAM) + b"answer")

    monkeypatch.setattr(Receiver, "_serve", answer_last)
    async with bridge({}, names=("echo",), warm=warm) as tunnel:
        await until(lambda: len(tunnel.local.pool) == warm)
        async with connected(tunnel.port()) as client:
            await client.send(b"question")
            assert await client.read(6) == b"answer"
            assert tunnel.local.session.bytes_in == len(b"question")
            assert tunnel.local.session.bytes_out == len(b"answer")


async def test_a_client_that_resets_before_the_answer_is_not_taken_for_one_that_ended(
    bridge, monkeypatch
):
    asked, has_reset, losses = asyncio.Event(), asyncio.Event(), []

    async def answer_late(_self, link, _log):
        await link.read()
        asked.set()
        await has_reset.wait()
        link.write(acceptance(Mode.STREAM))
        try:
            while await link.read():
                pass
        except LinkLostError as error:
            losses.append(str(error))

    monkeypatch.setattr(Receiver, "_serve", answer_late)
    async with bridge({}, names=("echo",), warm=1) as tunnel:
        await until(lambda: len(tunnel.local.pool) == 1)
        async with connected(tunnel.port()) as client:
            await asked.wait()
            client.reset()
        has_reset.set()
        await until(lambda: losses)
        assert "reset by peer" in losses[0]


async def test_without_warm_connections_the_path_is_probed(relay, certificates):
    local = make_local(relay, certificates, dial_timeout=0.5, pool=quick_pool(0, probe_every=0.02))
    async with local.running():
        await until(lambda: "nobody listens" in local.why)
        assert not local.ready
        async with listening_device(relay, certificates, {}):
            await until(lambda: local.ready)
            dials = relay.dials
            await until(lambda: relay.dials > dials + 1)
            await until(lambda: len(relay.streams) <= 1)
        await until(lambda: not local.ready)


async def test_readiness_follows_the_device(relay, certificates):
    local = make_local(relay, certificates, pool=quick_pool(2))
    async with local.running():
        assert not local.ready
        async with listening_device(relay, certificates, {}):
            await until(lambda: local.ready)
        await until(lambda: not local.ready)
        assert "nobody listens" in local.why
        async with listening_device(relay, certificates, {}):
            await until(lambda: local.ready)
    assert not local.ready


async def test_the_token_in_force_is_sent_in_the_header(relay, certificates):
    local = make_local(relay, certificates, pool=quick_pool(0, probe_every=0.02))
    async with local.running():
        await until(lambda: relay.tokens)
        old = local._sender.token
        local._sender.token = type(old)("SharedAccessSignature new")
        await until(lambda: relay.tokens[-1] == ("connect", "SharedAccessSignature new"))
    assert ("connect", old.reveal()) in relay.tokens


async def test_a_stream_that_ends_with_the_forwarder_is_reset(relay, certificates):
    async with listening(echo) as target, listening_device(relay, certificates, {"echo": target}):
        local = make_local(relay, certificates)
        async with local.running():
            reader, writer = await asyncio.open_connection("127.0.0.1", local.addresses["echo"])
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


class ShortOfFiles:
    """An event loop that can not accept the first client, for want of files."""

    def __init__(self, loop):
        self._loop = loop
        self.shortages = 0

    def __getattr__(self, name):
        return getattr(self._loop, name)

    async def sock_accept(self, sock):
        if not self.shortages:
            self.shortages += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await self._loop.sock_accept(sock)


async def test_a_shortage_of_files_is_waited_out(bridge, monkeypatch):
    loop = ShortOfFiles(asyncio.get_running_loop())
    monkeypatch.setattr("tunnel_forwarder.local.SHORTAGE_SECONDS", 0.01)
    monkeypatch.setattr("tunnel_forwarder.local.asyncio.get_running_loop", lambda: loop)
    async with (
        listening(echo) as target,
        bridge({"echo": target}) as tunnel,
        connected(tunnel.port()) as client,
    ):
        await client.send(b"x")
        assert await client.read(1) == b"x"
    assert loop.shortages == 1


async def test_both_logs_name_the_same_rendezvous(bridge):
    with structlog.testing.capture_logs() as lines:
        async with (
            listening(echo) as target,
            bridge({"echo": target}) as tunnel,
            connected(tunnel.port()) as client,
        ):
            client.end()
            assert await client.read() == b""
    closed = [line for line in lines if line["event"] == "stream.closed"]
    assert {line["reason"] for line in closed} == {"completed"}
    (here,) = [line for line in closed if "peer" in line]
    assert here["correlation_id"] == "c-1"
    assert here["rendezvous"]
