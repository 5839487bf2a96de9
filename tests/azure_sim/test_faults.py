"""What goes wrong on demand, on each plane, and that it goes wrong the same way under the same seed."""

import asyncio
import itertools
import json

import pytest

from tunnel_azure_sim import (
    ArmFailure,
    HubFailure,
    Latency,
    LostAccept,
    LostMethodAnswer,
    Outage,
    OutageMode,
    Plane,
    SlowReader,
    Target,
)
from tunnel_azure_sim.errors import ConfigError
from tunnel_azure_sim.faults import Faults
from tunnel_azure_sim.hub.errors import Code
from tunnel_azure_sim.wire import read_fault, to_json

BINARY = 2
SLOW = 0.15
VERSION = {"api-version": "2024-01-01"}


@pytest.fixture
def arm(sim, http):
    base = (
        f"{sim.endpoints.arm_base_url}/subscriptions/{sim.endpoints.subscription_id}"
        "/resourceGroups/demo/providers/Microsoft.Relay/namespaces/demo/hybridConnections"
    )

    async def call(method="GET", name="hc", **body):
        headers = {"Authorization": f"Bearer {sim.access_token().reveal()}"}
        url = f"{base}/{name}"
        async with http.request(method, url, params=VERSION, headers=headers, **body) as response:
            return response.status, response.headers, await response.json()

    return call


async def took(awaitable):
    loop = asyncio.get_running_loop()
    began = loop.time()
    await awaitable
    return loop.time() - began


async def test_latency_of_arm(sim, arm):
    await sim.inject(Latency(Plane.ARM, SLOW))
    assert await took(arm()) >= SLOW
    await sim.heal()
    assert await took(arm()) < SLOW


async def test_latency_of_the_token_endpoint_and_the_hub(sim, http, rest):
    await sim.inject(Latency(Plane.IDENTITY, SLOW))
    await sim.inject(Latency(Plane.HUB, SLOW))

    async def get():
        async with http.get(sim.endpoints.authority_host) as response:
            assert response.status == 404

    assert await took(get()) >= SLOW
    assert await took(rest.call("GET", "/devices/mri-7")) >= SLOW


async def test_latency_of_the_relays_handshake(sim, relay):
    await sim.inject(Latency(Plane.RELAY, SLOW))
    assert await took(relay.listen()) >= SLOW
    assert await took(relay.status(relay.websocket("/$hc/none?sb-hc-action=listen"))) >= SLOW


async def test_client_that_leaves_during_latency(sim, relay):
    await sim.inject(Latency(Plane.RELAY, SLOW))
    _, writer = await relay.request("/$hc/hc?sb-hc-action=listen")
    writer.transport.abort()
    await relay.listen()
    assert sim.listeners("hc") == 1


async def test_latency_of_mqtt_keeps_the_order(sim, mqtt):
    await sim.inject(Latency(Plane.MQTT, SLOW, jitter=0.1))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await mqtt.subscribed()
    assert loop.time() - began >= 2 * SLOW


async def test_latency_of_streams_keeps_order_and_close(sim, relay):
    sender, listener = await relay.pair()
    await sender.send(BINARY, b"before")
    assert (await listener.receive()).payload == b"before"
    await sim.inject(Latency(Plane.RELAY_DATA, SLOW, jitter=0.05))
    began = asyncio.get_running_loop().time()
    for number in range(20):
        await sender.send(BINARY, bytes([number]))
    await sender.close(1000, b"end")
    assert [(await listener.receive()).payload[0] for _ in range(20)] == list(range(20))
    assert asyncio.get_running_loop().time() - began >= SLOW
    assert await listener.receive_close() == 1000
    sender.abort()
    assert await listener.ended() == b""
    await sim.until(lambda: sim.hybrid_connections()["hc"].streams == 0)


async def test_lost_sender_is_told_of_after_what_it_sent(sim, relay):
    await sim.inject(Latency(Plane.RELAY_DATA, SLOW))
    sender, listener = await relay.pair()
    await sender.send(BINARY, b"last words")
    sender.abort()
    assert (await listener.receive()).payload == b"last words"
    assert await listener.receive_close() == 1001


async def test_slow_reader_pushes_back(sim, relay):
    await sim.inject(SlowReader(bytes_per_second=200_000, hybrid_connection="hc"))
    sender, listener = await relay.pair()
    sent = 0

    async def flood():
        nonlocal sent
        while True:
            await sender.send(BINARY, b"x" * 16_000)
            sent += 16_000

    flooding = asyncio.create_task(flood())
    loop = asyncio.get_running_loop()
    began, received = loop.time(), 0
    while loop.time() - began < 0.5:
        received += len((await listener.receive()).payload)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    assert received < 350_000
    await sim.heal()


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_nth_arm_call_fails_and_changes_nothing(sim, arm, status):
    await sim.inject(
        ArmFailure(status, verb="PUT", resource="hybridConnection", nth=2, times=2, retry_after=7)
    )
    assert (await arm("GET", "none"))[0] == 404
    assert (await arm("PUT", "a", json={}))[0] == 200
    for _ in range(2):
        answer, headers, body = await arm("PUT", "b", json={})
        assert (answer, headers["Retry-After"]) == (status, "7")
        assert body["error"]["code"]
    assert "b" not in sim.hybrid_connections()
    assert (await arm("PUT", "b", json={}))[0] == 200
    assert [call.status for call in sim.arm_calls][-3:] == [status, status, 200]
    assert sim.faults_in_force == ()


async def test_nth_hub_call_fails_and_reaches_no_device(sim, rest):
    await sim.inject(
        HubFailure(Code.ThrottlingBacklogTimeout, "methods", "mri-7", nth=2, times=2, retry_after=3)
    )
    assert (await rest.call("GET", "/twins/mri-7"))[0] == 200
    assert (await rest.method("nobody"))[0] == 404
    assert (await rest.method())[0] == 404
    for _ in range(2):
        status, headers, _ = await rest.method()
        assert (status, headers["Retry-After"]) == (429, "3")
    assert (await rest.method())[0] == 404
    assert [call.error for call in sim.method_calls] == [404001, 404103, 404103]
    await sim.inject(HubFailure(Code.PartitionNotFound, device="mri-7/agent"))
    assert (await rest.call("GET", "/devices/mri-7/modules"))[0] == 200
    assert await rest.error("GET", "/devices/mri-7/modules/agent") == (
        503003,
        "PartitionNotFound",
    )


async def test_method_that_is_carried_out_and_never_answered(sim, mqtt, rest):
    await sim.inject(LostMethodAnswer(method="open"))
    device = await mqtt.subscribed()
    for expected in (504, 200):
        calling = asyncio.create_task(rest.method())
        first, body = await device.receive()
        assert first == 0x30
        topic = body[2 : 2 + body[1]].decode()
        request_id = topic.partition("$rid=")[2]
        answer = f"$iothub/methods/res/200/?$rid={request_id}".encode()
        device.send(0x30, len(answer).to_bytes(2, "big") + answer + b"{}")
        status, _, _ = await calling
        assert status == expected
    assert [call.error for call in sim.method_calls] == [504101, None]


@pytest.mark.parametrize("timings", [{"rendezvous": 0.2}], indirect=True)
async def test_accept_that_never_comes(sim, relay):
    await sim.inject(LostAccept(times=1))
    control = await relay.listen()
    assert await relay.status(relay.dial()) == 504
    await relay.pair(control)


async def test_dropped_control_channels_leave_streams_alone(sim, relay):
    control = await relay.listen()
    sender, listener = await relay.pair(control)
    assert sim.drop(Target.CONTROL, hybrid_connection="hc") == 1
    assert await control.ended() == b""
    await sim.until(lambda: sim.listeners("hc") == 0)
    await sender.send(BINARY, b"still there")
    assert (await listener.receive()).payload == b"still there"


async def test_one_stream_or_all_are_dropped(sim, relay):
    control = await relay.listen()
    pairs = [await relay.pair(control) for _ in range(3)]
    assert sim.drop(Target.STREAM) == 1
    for side in pairs[0]:
        assert await side.ended() == b""
    assert sim.drop(Target.STREAMS, hybrid_connection="other") == 0
    assert sim.drop(Target.ALL) == 3
    for side in itertools.chain(*pairs[1:], [control]):
        assert await side.ended() == b""


async def test_half_open_stream_hears_nothing_of_its_end(sim, relay):
    sender, listener = await relay.pair()
    sim.drop(Target.STREAM, half_open=True)
    await sender.send(BINARY, b"into the void")
    await sender.close()
    for side in (sender, listener):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(side.reader.read(1), 0.2)
    assert sim.hybrid_connections()["hc"].streams == 1
    await sim.reset()
    for side in (sender, listener):
        await side.ended()


@pytest.mark.parametrize("timings", [{"rendezvous": 0.2}], indirect=True)
async def test_half_open_control_channel_still_counts(sim, relay):
    control = await relay.listen()
    sim.drop(Target.CONTROL, half_open=True)
    assert sim.listeners("hc") == 1
    assert await relay.status(relay.dial()) == 504
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(control.reader.read(1), 0.1)


def test_same_seed_same_delays():
    def delays(seed, others=0):
        faults = Faults(seed)
        faults.add(Latency(Plane.ARM, 1, jitter=1))
        faults.add(Latency(Plane.HUB, 1, jitter=1))
        for _ in range(others):
            faults.delay(Plane.HUB)
        return [faults.delay(Plane.ARM) for _ in range(5)]

    assert delays(1) == delays(1, others=3) != delays(2)
    assert all(1 <= delay < 2 for delay in delays(1))
    assert Faults().delay(Plane.ARM) == 0


@pytest.mark.parametrize("raw", [
    {},
    {"kind": 7},
    {"kind": "unheard-of"},
    {"kind": "latency", "plane": "arm"},
    {"kind": "latency", "plane": "moon", "seconds": 1},
    {"kind": "latency", "plane": "arm", "seconds": "soon"},
    {"kind": "latency", "plane": "arm", "seconds": -1},
    {"kind": "latency", "plane": "arm", "seconds": "nan"},
    {"kind": "latency", "plane": "arm", "seconds": 1, "colour": "red"},
    {"kind": "arm-failure", "status": None},
    {"kind": "arm-failure", "status": [503]},
    {"kind": "hub-failure", "code": 500},
    {"kind": "hub-failure", "code": "ServerError"},
])  # fmt: skip
def test_malformed_faults(raw):
    with pytest.raises(ConfigError):
        read_fault(raw)


@pytest.mark.parametrize("fault", [
    Latency(Plane.MQTT, 0.5, 0.25),
    Outage(Plane.HUB, OutageMode.ANSWER_503),
    ArmFailure(429, "PUT", None, 3, 2, 10),
    HubFailure(Code.ServerError, "methods", "d/m", 3, 2, 10),
    LostMethodAnswer("d", None, 2),
    LostAccept("hc"),
    SlowReader(1000),
])  # fmt: skip
def test_faults_are_written_and_read(fault):
    raw = to_json(fault)
    assert read_fault(json.loads(json.dumps(raw))) == fault
    text = {name: str(value) for name, value in raw.items() if value is not None}
    assert read_fault(text) == fault


async def test_http_sender_of_a_lost_rendezvous(sim, relay, http):
    """What half-open and dropping do to a relayed HTTP request's own socket."""
    control = await relay.listen()
    url = f"https://{relay.host}:{relay.port}/hc"
    headers = {"ServiceBusAuthorization": relay.token("send")}
    sending = asyncio.create_task(http.get(url, headers=headers))
    await control.receive()
    sim.drop(Target.CONTROL)
    async with await sending as response:
        assert response.status == 502
