"""The remote forwarder: its control channel, and what it answers to senders of any kind."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from picows import WSCloseCode, WSMsgType

from support.bridge import LISTEN, SEND, make_remote
from support.peers import echo, listening
from support.waiting import until
from tunnel_forwarder.backoff import Ladder
from tunnel_forwarder.errors import LinkLostError
from tunnel_forwarder.lifetime import EndReason
from tunnel_forwarder.link import Link
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import connect_url
from tunnel_forwarder.remote import RemoteLimits
from tunnel_forwarder.targets import Target, find_target
from tunnel_forwarder.transport import Dialer


@pytest.fixture
def remote(relay, certificates):
    return lambda targets=None, **options: make_remote(
        relay, certificates, targets or {}, **options
    )


@pytest.fixture
def dial(relay, certificates):
    """A bare sender, as azbridge's would be on the wire."""

    async def dial():
        dialer = Dialer(certificates.client)
        return await dialer.dial(
            connect_url(relay.endpoint, "hc", tracking_id="t"), Link(), token=SEND
        )

    return dial


async def read_all(link):
    data = b""
    while part := await link.read():
        data += part
    return data


@pytest.mark.parametrize(
    ("name", "targets", "found"),
    [
        ("web", {"web": 1, "ssh": 2}, 1),
        ("WEB", {"web": 1}, None),
        ("8080", {"web": 1}, 1),
        (" -7 ", {"web": 1}, 1),
        ("8080", {"web": 1, "ssh": 2}, None),
        ("8080", {"web": 1, "8080": 2}, 2),
        ("", {"web": 1}, None),
    ],
)
def test_port_names_are_looked_up_as_azbridge_does(name, targets, found):
    targets = {key: Target("h", port) for key, port in targets.items()}
    assert find_target(name, targets) == (found and Target("h", found))


async def test_a_preamble_is_answered_however_it_is_cut(remote, dial):
    async with listening(echo) as target, remote({"test": target}) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        for value in b"\x01\x00\x00\x04test":
            link.write(bytes([value]))
        assert await link.read() == b"\x01\x00\x00"
        link.write(b"data")
        assert await link.read() == b"data"
        link.write_eof()
        assert await link.read() == b""
        link.close()


async def test_bytes_right_behind_the_preamble_are_not_lost(remote, dial):
    async with listening(echo) as target, remote({"test": target}) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        link.write(b"\x01\x00\x00\x04testimpatient")
        link.write_eof()
        assert await read_all(link) == b"\x01\x00\x00impatient"
        link.close()


async def test_text_fragments_and_empty_frames_are_bytes(remote, dial):
    async with listening(echo) as target, remote({"test": target}) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        link.write(b"\x01\x00\x00\x04test")
        assert await link.read() == b"\x01\x00\x00"
        send = link._transport.send
        send(WSMsgType.TEXT, b"text ")
        send(WSMsgType.BINARY, b"frag", False)
        send(WSMsgType.CONTINUATION, b"ments", False)
        send(WSMsgType.CONTINUATION, b"", True)
        send(WSMsgType.BINARY, b"")
        send(WSMsgType.PING, b"are you there")
        send(WSMsgType.BINARY, b" end")
        link.write_eof()
        assert await read_all(link) == b"text fragments end"
        link.close()


@pytest.mark.parametrize(
    ("preamble", "reply"),
    [
        (b"\x02\x00\x00\x04test", b"\x00\x00\x00"),
        (b"\x01\x00\x07\x04test", b"\x00\x00\x00"),
        (b"\x01\x00\x01\x04test", b"\x00\x00\xff"),
        (b"\x01\x00\x00\x05other", b""),
        (b"", b""),
        (b"\x01\x00", b""),
    ],
)
async def test_what_can_not_be_served_is_answered_as_azbridge_does(remote, dial, preamble, reply):
    async with remote({"test": 1}) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        link.write(preamble)
        if len(preamble) < 4:
            link.write_eof()
        assert await read_all(link) == reply
        assert link.ending.code == WSCloseCode.OK
        link.close()


async def test_a_refused_target_is_no_orderly_end(remote, dial):
    async with remote({"test": 1}) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        link.write(b"\x01\x00\x00\x04test")
        with pytest.raises(LinkLostError):
            await link.read()
        link.close()


async def test_a_sender_may_keep_the_rendezvous_for_later(remote, dial, relay):
    async with listening(echo) as target, remote({"test": target}) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        await until(lambda: forwarder._senders)
        link.close()
        await until(lambda: not forwarder._senders)
        assert not relay.streams


async def test_a_lost_control_channel_is_dialled_again_and_streams_survive(remote, dial, relay):
    async with listening(echo) as target, remote({"test": target}) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        link.write(b"\x01\x00\x00\x04test")
        assert await link.read() == b"\x01\x00\x00"
        await relay.drop_listeners()
        await until(lambda: len(relay.tokens) == 4 and forwarder.listening)
        link.write(b"still here")
        assert await link.read() == b"still here"
        link.close()


async def test_a_missing_hybrid_connection_is_waited_for(remote, relay):
    relay.refuse_listen = 404
    async with remote() as forwarder:
        await until(lambda: len(relay.tokens) >= 2)
        assert "404" in forwarder.trouble
        relay.refuse_listen = None
        await until(lambda: forwarder.listening)


async def test_a_new_token_is_handed_in_or_tried_at_once(remote, relay):
    renewed = Secret("SharedAccessSignature renewed")
    async with remote() as forwarder:
        await forwarder.wait_listening()
        forwarder.renew(renewed)
        await until(lambda: relay.control_messages)
        assert relay.control_messages == [{"renewToken": {"token": renewed.reveal()}}]
        assert forwarder.listening
        relay.refuse_listen = 401
        await relay.drop_listeners()
        # Three failures later the ladder would wait for seconds.
        await until(lambda: forwarder._listener.ladder.failures >= 3)
        relay.refuse_listen = None
        forwarder.renew(Secret("SharedAccessSignature newest"))
        await until(lambda: forwarder.listening, within=1.0)
    assert relay.tokens[-1] == ("listen", "SharedAccessSignature newest")
    assert ("listen", LISTEN.reveal()) in relay.tokens


async def test_a_relay_that_hangs_up_at_once_is_not_dialled_in_a_tight_loop(remote, relay):
    async with remote() as forwarder:
        for dials in (1, 2):
            await until(lambda dials=dials: forwarder.listening and len(relay.tokens) == dials)
            await relay.drop_listeners()
        await until(lambda: not forwarder.listening)
        assert forwarder._listener.ladder.failures == 2


async def test_it_ends_by_itself_at_its_deadline(remote, dial):
    deadline = datetime.now(UTC) + timedelta(seconds=0.3)
    async with (
        listening(echo) as target,
        remote({"test": target}, expires_at=deadline) as forwarder,
    ):
        await forwarder.wait_listening()
        link = await dial()
        link.write(b"\x01\x00\x00\x04test")
        assert await link.read() == b"\x01\x00\x00"
        async with asyncio.timeout(5):
            await forwarder.wait_ended()
        assert forwarder.end_reason is EndReason.EXPIRED
        with pytest.raises(LinkLostError):
            await link.read()
        link.close()


async def test_a_moved_deadline_drops_nothing(remote, dial):
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    async with listening(echo) as target, remote({"test": target}, expires_at=soon) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        link.write(b"\x01\x00\x00\x04test")
        assert await link.read() == b"\x01\x00\x00"
        forwarder.update(
            targets={"other": Target("127.0.0.1", target)}, expires_at=soon + timedelta(hours=1)
        )
        await until(lambda: datetime.now(UTC) > soon + timedelta(seconds=0.1))
        link.write(b"going on")
        assert await link.read() == b"going on"
        link.close()


async def test_a_full_device_rejects(remote, dial, relay):
    async with remote({"test": 1}, limits=RemoteLimits(streams=1)) as forwarder:
        await forwarder.wait_listening()
        link = await dial()
        with pytest.raises(Exception, match="503"):
            await dial()
        assert relay.rejections == ["Too many streams"]
        link.close()


async def test_http_requests_and_unknown_messages_do_no_harm(remote, relay, dial):
    async with listening(echo) as target, remote({"test": target}) as forwarder:
        await forwarder.wait_listening()
        (channel,) = relay.listeners
        await channel.send_json({"request": {"address": "wss://x", "id": "1", "body": True}})
        await channel.send_bytes(b"the body")
        await channel.send_json({"unheardOf": {}})
        await channel.send_str("not JSON")
        await channel.send_json({"accept": {"address": "ws://127.0.0.1/plain", "id": "2"}})
        await channel.send_json({"accept": {"address": "wss://no host/", "id": "3"}})
        link = await dial()
        link.write(b"\x01\x00\x00\x04test")
        assert await link.read() == b"\x01\x00\x00"
        link.close()


async def test_keep_alive_is_an_unsolicited_pong(relay, certificates):
    pongs = []
    dialer = Dialer(certificates.client)

    class Channel(Link):
        def keep_alive(self):
            pongs.append(self.connected)
            super().keep_alive()

    async with make_remote(relay, certificates, {}) as forwarder:
        await forwarder.wait_listening()
        link = await dialer.dial(connect_url(relay.endpoint, "hc", tracking_id="t"), Channel())
        task = asyncio.create_task(dialer.keep_alive(every=0.01))
        await until(lambda: len(pongs) >= 2)
        assert all(pongs)
        link.close()
        await until(lambda: not dialer._open)
        task.cancel()


def test_the_ladder_is_relay_dotnets_with_jitter():
    ladder = Ladder(chance=lambda: 0.5)
    assert [ladder.next_delay() for _ in range(8)] == [0, 1, 2, 5, 10, 30, 30, 30]
    ladder.reset()
    assert ladder.next_delay() == 0
    assert Ladder((10,), chance=lambda: 0.0).next_delay() == 7.5
    assert Ladder((10,), chance=lambda: 1.0).next_delay() == 12.5
