"""A device's MQTT session, packet by packet."""

import asyncio
import json
import struct
import weakref

import pytest

from support.raw_hub import CLEAN, KEPT, text
from support.sockets import keep_little_on_the_way
from support.waiting import until

DISCONNECT, PINGREQ, PUBLISH_QOS_1 = 0xE0, 0xC0, 0x32


async def test_connect_ping_disconnect(sim, mqtt):
    client = await mqtt.connected()
    assert sim.device("mri-7").connected
    client.send(PINGREQ)
    assert await client.receive() == (0xD0, b"")
    client.send(DISCONNECT)
    assert await client.ended() == b""
    await sim.until(lambda: not sim.device("mri-7").connected)


@pytest.mark.parametrize(("options", "code"), [
    ({"level": 3}, 1),
    ({"client_id": "other"}, 2),
    ({"password": ""}, 5),
    ({"password": "SharedAccessSignature sr=x"}, 5),
    ({"user": "demo-hub.azure-devices.net"}, 5),
    ({"user": "elsewhere.azure-devices.net/mri-7/?api-version=2021-04-12"}, 5),
    ({"device": "nobody"}, 5),
])  # fmt: skip
async def test_connects_that_are_refused(sim, mqtt, options, code):
    refused, client = await mqtt.code(**options)
    assert refused == code
    assert await client.ended() == b""
    assert not sim.device("mri-7").connected


async def test_tokens_that_are_refused(sim, mqtt, clock):
    hub = sim._hub(None)
    for token in (
        mqtt.token(expires_at=int(clock()) - 1),
        mqtt.token(audience=f"{mqtt.host_name}/devices/other"),
        mqtt.token(key=hub.policies["device"].keys.primary),
        mqtt.token(rule="service", key=hub.policies["service"].keys.primary),
        mqtt.token(rule="nobody"),
    ):
        assert (await mqtt.code(password=token))[0] == 5


async def test_other_ways_to_sign_in(sim, mqtt):
    hub = sim._hub(None)
    policy = hub.policies["device"].keys.secondary
    await mqtt.connected(password=mqtt.token(rule="device", key=policy, audience=mqtt.host_name))
    await mqtt.connected(password=mqtt.token(key=hub.existing("mri-7").keys.secondary))
    # Without GatewayHostName a device knows the hub by the address that it dials.
    user = f"{mqtt.host}/mri-7/?api-version=2021-04-12"
    await mqtt.connected(user=user, password=mqtt.token(audience=f"{mqtt.host}/devices/mri-7"))


async def test_disabled_device_is_refused(sim, mqtt):
    sim._hub(None).existing("mri-7").enabled = False
    assert (await mqtt.code())[0] == 5


@pytest.mark.parametrize("raw", [
    b"\xc0\x00",  # PINGREQ before CONNECT
    b"\x00\x00",
    b"\xf0\x00",
    b"\x10\xff\xff\xff\xff\x01",
    b"\x10\xff\xff\xff\x7f",
    b"\x10\x04\x00\x04HTTP",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x11\x00",
])  # fmt: skip
async def test_what_is_no_connect_ends_the_connection(mqtt, raw):
    client = await mqtt.client()
    client.writer.write(raw)
    assert await client.ended() == b""


@pytest.mark.parametrize("packet", [
    (0x34, text("devices/mri-7/messages/events/") + b"\x00\x01"),  # QoS 2
    (0x30, text("devices/other/messages/events/")),
    (0x30, text("devices/#")),
    (0x30, text("")),
    (0x36, b""),
    (PUBLISH_QOS_1, text("devices/mri-7/messages/events/") + b"\x00\x00"),
    (0x80, b"\x00\x01" + text("$iothub/#") + b"\x00"),  # SUBSCRIBE with wrong flags
    (0x82, b"\x00\x01"),
    (0x82, b"\x00\x01" + text("x") + b"\x03"),
    (0x82, b"\x00\x01\x00\x09$iothub"),
    (0xA2, b"\x00\x01"),
    (0xC0, b"x"),
    (0x20, b"\x00\x00"),
])  # fmt: skip
async def test_what_breaks_the_protocol_ends_the_session(sim, mqtt, packet):
    client = await mqtt.connected()
    client.send(*packet)
    assert await client.ended() == b""
    await sim.until(lambda: not sim.device("mri-7").connected)


async def test_second_connect_ends_the_session(mqtt):
    client = await mqtt.connected()
    mqtt.connect(client)
    assert await client.ended() == b""


async def test_subscriptions_are_granted_or_refused_one_by_one(sim, mqtt):
    client = await mqtt.connected()
    filters = [
        ("$iothub/methods/POST/#", 2),
        ("devices/mri-7/messages/devicebound/#", 0),
        ("devices/other/messages/devicebound/#", 0),
        ("#", 0),
    ]
    client.send(0x82, b"\x00\x07" + b"".join(text(name) + bytes([qos]) for name, qos in filters))
    assert await client.receive() == (0x90, b"\x00\x07\x01\x00\x80\x80")
    assert sim.device("mri-7").accepts_methods
    client.send(0xA2, b"\x00\x08" + text("$iothub/methods/POST/#"))
    assert await client.receive() == (0xB0, b"\x00\x08")
    assert not sim.device("mri-7").accepts_methods


async def test_telemetry_is_acknowledged_and_counted(sim, mqtt):
    client = await mqtt.connected()
    topic = text("devices/mri-7/messages/events/temperatureAlert=false&$.ct=json")
    client.send(PUBLISH_QOS_1, topic + b"\x12\x34" + b"x" * 3000)
    assert await client.receive() == (0x40, b"\x12\x34")
    client.send(0x30, topic + b"no answer to this one")
    # Nobody hears an answer who has not subscribed to it.
    client.send(PUBLISH_QOS_1, text("$iothub/twin/GET/?$rid=1") + b"\x00\x02")
    assert await client.receive() == (0x40, b"\x00\x02")
    assert sim.device("mri-7").telemetry_messages == 2


async def test_method_call_and_answer_on_the_wire(mqtt, rest):
    client = await mqtt.subscribed()
    calling = asyncio.create_task(rest.method(methodName="Open it", payload={"port": 80}))
    first, body = await client.receive()
    assert first == 0x30
    size = struct.unpack("!H", body[:2])[0]
    topic, payload = body[2 : 2 + size].decode(), body[2 + size :]
    prefix, _, request_id = topic.partition("/?$rid=")
    assert prefix == "$iothub/methods/POST/Open%20it"
    assert json.loads(payload) == {"port": 80}
    # An answer to a call that nobody made changes nothing.
    client.send(0x30, text("$iothub/methods/res/200/?$rid=ffff") + b"{}")
    client.send(
        PUBLISH_QOS_1, text(f"$iothub/methods/res/207/?$rid={request_id}") + b"\x00\x05" + b'"done"'
    )
    assert await client.receive() == (0x40, b"\x00\x05")
    assert (await calling)[::2] == (200, {"status": 207, "payload": "done"})


async def test_answer_that_is_no_json_counts_as_null(mqtt, rest):
    client = await mqtt.subscribed()
    calling = asyncio.create_task(rest.method())
    _, body = await client.receive()
    request_id = body.partition(b"$rid=")[2][:8].decode()
    client.send(0x30, text(f"$iothub/methods/res/200/?$rid={request_id}") + b"{nonsense")
    assert (await calling)[2] == {"status": 200, "payload": None}


async def test_loss_in_mid_call_is_told(mqtt, rest):
    client = await mqtt.subscribed()
    calling = asyncio.create_task(
        rest.error("POST", "/twins/mri-7/methods", json={"methodName": "x"})
    )
    await client.receive()
    client.writer.transport.abort()
    assert await calling == (404104, "DeviceConnectionClosedRemotely")


async def test_eviction_in_mid_call_is_told(sim, mqtt, rest):
    first = await mqtt.subscribed()
    calling = asyncio.create_task(
        rest.error("POST", "/twins/mri-7/methods", json={"methodName": "x"})
    )
    await first.receive()
    second = await mqtt.connected()
    assert await calling == (400027, "ConnectionForcefullyClosedOnNewConnection")
    assert await first.ended() == b""
    assert sim.device("mri-7").connected
    assert not sim.device("mri-7").accepts_methods
    second.send(PINGREQ)
    assert await second.receive() == (0xD0, b"")


@pytest.mark.parametrize("flags", [
    (KEPT, KEPT, True),
    (KEPT, CLEAN, False),
    (CLEAN, KEPT, False),
])  # fmt: skip
async def test_subscriptions_outlive_a_connection_without_clean_session(sim, mqtt, rest, flags):
    before, after, kept = flags
    first = await mqtt.subscribed(flags=before)
    first.writer.transport.abort()
    await sim.until(lambda: not sim.device("mri-7").connected)
    assert not sim.device("mri-7").accepts_methods
    second = await mqtt.client()
    mqtt.connect(second, flags=after)
    assert await second.receive() == (0x20, bytes([kept, 0]))
    assert sim.device("mri-7").accepts_methods is kept
    if kept:
        calling = asyncio.create_task(rest.method())
        assert (await second.receive())[0] == 0x30
        calling.cancel()


@pytest.mark.usefixtures("no_collection")
async def test_a_session_is_freed_with_its_connection(sim, mqtt):
    client = await mqtt.subscribed()
    session = weakref.ref(sim._hub(None).existing("mri-7").session)
    client.writer.transport.abort()
    await until(lambda: session() is None)


async def test_silent_client_is_offline_after_one_and_a_half_keep_alives(sim, mqtt):
    loop = asyncio.get_running_loop()
    client = await mqtt.connected(keep_alive=1)
    began = loop.time()
    assert await client.ended() == b""
    assert 1.4 < loop.time() - began < 3
    assert not sim.device("mri-7").connected


async def test_session_ends_with_its_token(sim, mqtt, clock):
    expiry = clock.soon(0.3)
    client = await mqtt.connected(password=mqtt.token(expires_at=expiry))
    assert await client.ended() == b""
    assert not sim.device("mri-7").connected


@pytest.mark.parametrize("timings", [{"request_head": 0.2}], indirect=True)
async def test_client_that_says_nothing_is_cut(mqtt):
    client = await mqtt.client()
    assert await client.ended() == b""


async def test_client_that_reads_nothing_is_not_read_from(sim, mqtt):
    client = await mqtt.connected()
    session = sim._hub(None).existing("mri-7").session
    own, its = client.writer.transport, session._transport
    keep_little_on_the_way(own, its)
    own.pause_reading()

    async def flood():
        while True:
            client.writer.write(b"\xc0\x00" * 1_000)
            await asyncio.sleep(0)
            await asyncio.wait_for(client.writer.drain(), 0.5)

    async with asyncio.timeout(15):
        with pytest.raises(TimeoutError):
            await flood()
    assert its.get_write_buffer_size() < 512 * 1024
