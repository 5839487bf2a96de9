"""Tunnels on a device, opened and closed by method payloads, over a relay without the hub."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from support.bridge import LISTEN, SEND
from support.peers import echo, listening
from support.waiting import until
from tunnel_device_sim.config import AllowList, SampleMode
from tunnel_device_sim.methods import Methods
from tunnel_device_sim.sample import SampleDevice
from tunnel_device_sim.tunnels import Tunnels
from tunnel_forwarder.errors import LinkLostError
from tunnel_forwarder.link import Link
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.method import (
    CloseRequest,
    Forward,
    ForwardAnswer,
    OpenAnswer,
    OpenRequest,
)
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import connect_url
from tunnel_forwarder.transport import Dialer

OPEN, CLOSE = "CreateConnection", "DeleteConnection"


class Device:
    """Methods as the hub calls them, and a sender to try what they did."""

    def __init__(self, relay, certificates, target):
        self.relay, self.target = relay, target
        self.tls = certificates.client
        self.tunnels = Tunnels(
            AllowList.parse([f"127.0.0.1:{target}", "127.0.0.1:1"]),
            self.tls,
            max_tunnels=2,
            listen_within=0.5,
        )
        self.methods = Methods(OPEN, CLOSE, self.tunnels)

    def request(self, **changes):
        return replace(
            OpenRequest(
                tunnel="imaging/mri-7",
                uid="uid-1",
                correlation_id="c-1",
                endpoint=self.relay.endpoint,
                hybrid_connection="hc",
                listen_token=LISTEN,
                forwards=(Forward("echo", "127.0.0.1", self.target),),
                expires_at=datetime.now(UTC) + timedelta(hours=1),
            ),
            **changes,
        )

    async def open(self, request=None, **changes):
        return await self.methods.answer(OPEN, (request or self.request(**changes)).to_payload())

    async def close(self, uid="uid-1"):
        return await self.methods.answer(
            CLOSE, CloseRequest("imaging/mri-7", uid, "c").to_payload()
        )

    async def stream(self, name="echo"):
        link = await Dialer(self.tls).dial(
            connect_url(self.relay.endpoint, "hc", tracking_id="t"), Link(), token=SEND
        )
        link.write(b"\x01\x00\x00" + bytes([len(name)]) + name.encode())
        assert await link.read() == b"\x01\x00\x00"
        return link


async def works(link):
    link.write(b"x")
    return await link.read() == b"x"


@pytest_asyncio.fixture
async def device(relay, certificates):
    async with listening(echo) as target:
        device = Device(relay, certificates, target)
        async with device.tunnels.running():
            yield device


async def test_an_open_answers_when_the_device_listens(device, relay):
    answer = await device.open()
    assert answer.status == 200
    assert OpenAnswer.from_payload(answer.payload) == OpenAnswer(
        "device_sim/0.1.0", True, (ForwardAnswer("echo", True, True),)
    )
    assert relay.tokens == [("listen", LISTEN.reveal())]
    assert await works(await device.stream())


async def test_a_target_that_does_not_answer_is_said_to_be_unreachable(device):
    answer = await device.open(forwards=(Forward("echo", "127.0.0.1", 1),))
    assert answer.status == 200
    assert OpenAnswer.from_payload(answer.payload).forwards == (ForwardAnswer("echo", True, False),)


async def test_one_forward_off_the_list_refuses_all(device, relay):
    allowed, forbidden = (
        Forward("echo", "127.0.0.1", device.target),
        Forward("ssh", "localhost", 22),
    )
    answer = await device.open(forwards=(allowed, forbidden))
    assert answer.status == 403
    assert OpenAnswer.from_payload(answer.payload) == OpenAnswer(
        "device_sim/0.1.0", False, (ForwardAnswer("echo", True), ForwardAnswer("ssh", False))
    )
    assert len(device.tunnels) == 0
    assert not relay.tokens


async def test_an_open_tunnel_can_not_be_widened_to_what_is_forbidden(device):
    await device.open()
    answer = await device.open(forwards=(Forward("echo", "localhost", 22),))
    assert answer.status == 403
    assert await works(await device.stream())


@pytest.mark.parametrize(
    "payload",
    [{"version": 2}, {"version": 1}, {"version": 1, "tunnel": 5}, [], 7, "text", {"version": "1"}],
)
async def test_what_can_not_be_read_is_answered_with_400(device, payload):
    for method in (OPEN, CLOSE):
        answer = await device.methods.answer(method, payload)
        assert answer.status == 400
        assert answer.payload["error"].endswith(".")


async def test_an_unknown_method_is_404(device):
    assert (await device.methods.answer("Reboot", None)).status == 404


async def test_unknown_protocols_and_passed_deadlines_are_refused(device):
    forward = Forward("echo", "127.0.0.1", device.target, "sctp")
    assert (await device.open(forwards=(forward,))).status == 403
    assert (await device.open(expires_at=datetime.now(UTC) - timedelta(seconds=1))).status == 400


async def test_datagrams_are_allowed_by_themselves(device):
    forward = Forward("echo", "127.0.0.1", device.target, "udp")
    assert (await device.open(forwards=(forward,))).status == 403
    device.tunnels.allow = AllowList.parse([f"127.0.0.1:{device.target}/udp"])
    answer = await device.open(forwards=(forward,))
    assert answer.status == 200
    assert OpenAnswer.from_payload(answer.payload).forwards == (ForwardAnswer("echo", True, None),)


async def test_a_shared_socket_is_offered_to_who_asks_for_it(device):
    assert "features" not in (await device.open()).payload
    answer = await device.open(features=("mux/1", "else/7"))
    assert OpenAnswer.from_payload(answer.payload).features == ("mux/1",)


async def test_the_same_open_again_changes_nothing(device, relay):
    request = device.request()
    answers = await asyncio.gather(*(device.open(request) for _ in range(3)))
    assert {answer.status for answer in answers} == {200}
    assert len(relay.listeners) == 1
    assert not relay.control_messages


async def test_a_new_deadline_token_and_port_drop_no_stream(device, relay):
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    await device.open(expires_at=soon)
    link = await device.stream()
    renewed = Secret("SharedAccessSignature sr=new")
    answer = await device.open(
        listen_token=renewed,
        expires_at=soon + timedelta(hours=1),
        forwards=(Forward("other", "127.0.0.1", device.target),),
    )
    assert answer.status == 200
    await until(lambda: relay.control_messages)
    assert relay.control_messages == [{"renewToken": {"token": renewed.reveal()}}]
    await until(lambda: datetime.now(UTC) > soon)
    assert await works(link)
    assert await works(await device.stream("other"))
    assert len(relay.listeners) == 1


async def test_a_tunnel_that_moved_is_listened_for_at_its_new_place_only(device, relay):
    await device.open()
    await device.open(hybrid_connection="elsewhere")
    await until(lambda: len(relay.listeners) == 1)
    assert len(device.tunnels) == 1
    assert device.tunnels["uid-1"].hybrid_connection == "elsewhere"


async def test_a_second_tunnel_works_beside_the_first_and_a_third_is_too_many(device, relay):
    await device.open()
    await device.open(uid="uid-2", hybrid_connection="hc-2")
    await until(lambda: len(relay.listeners) == 2)
    answer = await device.open(uid="uid-3", hybrid_connection="hc-3")
    assert answer.status == 429
    await device.close()
    await until(lambda: len(relay.listeners) == 1)
    assert device.tunnels.has("uid-2")
    assert (await device.open(uid="uid-3", hybrid_connection="hc-3")).status == 200


async def test_another_tunnel_on_the_same_hybrid_connection_replaces_the_first(device, relay):
    """Two listeners of ours would share its senders at random."""
    await device.open()
    await device.open(uid="uid-2")
    await until(lambda: len(relay.listeners) == 1)
    assert not device.tunnels.has("uid-1")


async def test_a_close_ends_the_streams_and_can_be_repeated(device, relay):
    await device.open()
    link = await device.stream()
    for _ in range(2):
        assert (await device.close()).status == 200
    with pytest.raises(LinkLostError):
        await link.read()
    await until(lambda: not relay.listeners)


async def test_a_tunnel_ends_at_its_deadline_on_its_own(device, relay):
    expires_at = datetime.now(UTC) + timedelta(seconds=1.2)
    assert (await device.open(expires_at=expires_at)).status == 200
    await until(lambda: not device.tunnels.has("uid-1"))
    await until(lambda: not relay.listeners)


async def test_a_relay_that_refuses_is_reported_and_tried_further(device, relay):
    relay.refuse_listen = 401
    answer = await device.open()
    assert answer.status == 503
    assert "401" in answer.payload["error"]
    assert OpenAnswer.from_payload(answer.payload).listening is False
    relay.refuse_listen = None
    await until(lambda: device.tunnels["uid-1"].listening)
    assert (await device.open()).status == 200


SAMPLE_KEY = "c2VjcmV0"


@pytest_asyncio.fixture
async def sample(device):
    mode = SampleMode(
        device.relay.endpoint, "SendListen", Secret(SAMPLE_KEY), "http", device.target
    )
    sample = SampleDevice(mode, "mri-7", device.tunnels, device.tls)
    return Methods(OPEN, CLOSE, device.tunnels, sample)


@pytest.mark.parametrize("payload", [None, "", {}, {"port": 8080}])
async def test_without_a_version_the_device_does_as_the_samples_does(
    sample, device, relay, payload
):
    for _ in range(2):
        answer = await sample.answer(OPEN, payload)
        assert answer.status == 200
        assert answer.payload["serviceProtocol"] == "http"
        assert answer.payload["servicePort"] == device.target
    ((_, token),) = relay.tokens
    read = sas.parse(token)
    assert read.is_signed_with(sas.relay_key(SAMPLE_KEY))
    assert sas.covers(read.audience, host="localhost", path="mri-7")
    assert await works(await device.stream("test"))
    for _ in range(2):
        assert (await sample.answer(CLOSE, payload)).status == 204
    await until(lambda: not relay.listeners)


async def test_without_the_samples_settings_a_call_without_a_payload_is_400(device):
    answer = await device.methods.answer(OPEN, None)
    assert answer.status == 400
    assert "AZRELAY_CONN_STRING" in answer.payload["error"]


async def test_the_samples_device_fails_with_500(sample, relay):
    relay.refuse_listen = 403
    assert (await sample.answer(OPEN, "")).status == 500


async def test_at_the_end_all_tunnels_stop_at_once(relay, certificates):
    async with listening(echo) as target, contextlib.AsyncExitStack() as stack:
        device = Device(relay, certificates, target)
        await stack.enter_async_context(device.tunnels.running())
        await device.open()
        link = await device.stream()
        async with asyncio.timeout(5):
            await stack.aclose()
        with pytest.raises(LinkLostError):
            await link.read()
