"""Whole planes that are out: they refuse, answer 503, or are silent until it is over."""

import asyncio

import pytest

from tunnel_azure_sim import (
    Outage,
    OutageMode,
    Plane,
)
from tunnel_azure_sim.errors import ConfigError
from tunnel_azure_sim.hub.session import ASSUMED_MAX_UNSENT

LARGE_CALL = {"methodName": "Open", "payload": "x" * 16_000, "responseTimeoutInSeconds": 5}


async def refuses(address, trust):
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port), ssl=trust)
    except ConnectionRefusedError:
        return True
    writer.transport.abort()
    return False


async def test_outage_refuses_cuts_and_ends(sim, relay, mqtt, trust):
    control, device = await relay.listen(), await mqtt.subscribed()
    host = sim.endpoints.hubs[0].host_name
    planes = {
        Plane.RELAY: sim.endpoints.relay[0].endpoint,
        Plane.ARM: sim.endpoints.arm_base_url,
        Plane.IDENTITY: sim.endpoints.authority_host,
        Plane.HUB: host,
        Plane.MQTT: f"{host.rpartition(':')[0]}:8883",
    }
    for plane in planes:
        await sim.inject(Outage(plane))
    assert await control.ended() == b""
    assert await device.ended() == b""
    for address in planes.values():
        assert await refuses(address, trust)
    await sim.heal()
    for address in planes.values():
        assert not await refuses(address, trust)
    await relay.pair()
    await mqtt.subscribed()


async def test_outage_that_answers(sim, relay, http):
    for plane in (Plane.RELAY, Plane.ARM, Plane.IDENTITY, Plane.HUB):
        await sim.inject(Outage(plane, OutageMode.ANSWER_503))
    assert await relay.status(relay.websocket("/$hc/hc?sb-hc-action=listen")) == 503
    for url in (
        f"https://{relay.host}:{relay.port}/hc",
        sim.endpoints.authority_host,
        sim.endpoints.arm_base_url,
        f"https://{sim.endpoints.hubs[0].host_name}/devices",
    ):
        async with http.get(url) as response:
            assert response.status == 503


@pytest.fixture
def requests(sim, relay, http):
    """Return a request to each plane that speaks HTTP."""

    async def get(url):
        async with http.get(url) as response:
            return response.status

    return {
        Plane.ARM: lambda: get(sim.endpoints.arm_base_url),
        Plane.IDENTITY: lambda: get(sim.endpoints.authority_host),
        Plane.HUB: lambda: get(f"https://{sim.endpoints.hubs[0].host_name}/devices"),
        Plane.RELAY: lambda: get(f"https://{relay.host}:{relay.port}/hc"),
    }


async def test_silent_planes_answer_once_it_is_over(sim, relay, requests):
    for plane in requests:
        await sim.inject(Outage(plane, OutageMode.SILENT))
    asking = [asyncio.create_task(ask()) for ask in requests.values()]
    asking.append(asyncio.create_task(relay.status(relay.websocket("/$hc/no?sb-hc-action=listen"))))
    done, _ = await asyncio.wait(asking, timeout=0.3)
    assert done == set()
    await sim.heal()
    async with asyncio.timeout(5):
        assert 503 not in await asyncio.gather(*asking)


async def test_silent_mqtt_goes_on_where_it_was(sim, mqtt, rest):
    device = await mqtt.subscribed()
    await sim.inject(Outage(Plane.MQTT, OutageMode.SILENT))
    connecting = await mqtt.client()
    mqtt.connect(connecting, device="mri-7/agent")
    for _ in range(2):
        device.send(0xC0)
    calling = asyncio.create_task(rest.method(responseTimeoutInSeconds=300))
    await sim.until(lambda: len(sim.method_calls) == 1)
    for client in (device, connecting):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.reader.read(1), 0.2)
    await sim.heal()
    # What was to be said meanwhile, and the answers to both pings.
    assert sorted([(await device.receive())[0] for _ in range(3)]) == [0x30, 0xD0, 0xD0]
    assert (await connecting.receive())[0] == 0x20
    calling.cancel()


async def test_silent_mqtt_keeps_no_more_than_a_dead_connection_would(sim, mqtt, rest):
    device = await mqtt.subscribed()
    await sim.inject(Outage(Plane.MQTT, OutageMode.SILENT))
    lost = await asyncio.gather(
        *(rest.error("POST", "/twins/mri-7/methods", json=LARGE_CALL) for _ in range(40))
    )
    assert set(lost) == {(504101, "GatewayTimeout")}
    unsent = sim._hub(None).existing("mri-7").session._transport.get_write_buffer_size()
    await sim.heal()
    received = 0
    while received < unsent:
        first, body = await device.receive()
        assert first == 0x30
        received += 4 + len(body)
    assert len(LARGE_CALL["payload"]) < received < ASSUMED_MAX_UNSENT + 16_384
    calling = asyncio.create_task(rest.method())
    assert (await device.receive())[0] == 0x30
    calling.cancel()


@pytest.mark.parametrize("timings", [{"request_head": 0.2}], indirect=True)
async def test_silent_mqtt_tells_no_end(sim, mqtt):
    device = await mqtt.connected()
    await sim.inject(Outage(Plane.MQTT, OutageMode.SILENT))
    connecting = await mqtt.client()
    mqtt.connect(connecting)
    sim._hub(None).remove("mri-7")
    await sim.until(lambda: not sim.all_devices())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connecting.reader.read(1), 0.5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(device.reader.read(1), 0.1)
    await sim.heal()
    assert await device.ended() == b""
    assert await connecting.ended() == b""


async def test_silence_that_ends_in_a_refusal_says_nothing(sim, mqtt, requests):
    await sim.inject(Outage(Plane.MQTT, OutageMode.SILENT))
    await sim.inject(Outage(Plane.ARM, OutageMode.SILENT))
    connecting = await mqtt.client()
    mqtt.connect(connecting)
    asking = asyncio.create_task(requests[Plane.ARM]())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connecting.reader.read(1), 0.2)
    await sim.inject(Outage(Plane.MQTT))
    await sim.inject(Outage(Plane.ARM, OutageMode.ANSWER_503))
    assert await connecting.ended() == b""
    assert await asking == 503


async def test_silence_does_not_hold_up_the_stop(sim, mqtt, requests):
    for plane in (*requests, Plane.MQTT):
        await sim.inject(Outage(plane, OutageMode.SILENT))
    connecting = await mqtt.client()
    mqtt.connect(connecting)
    asking = [asyncio.create_task(ask()) for ask in requests.values()]
    await asyncio.wait(asking, timeout=0.2)
    async with asyncio.timeout(3):
        await sim.__aexit__(None, None, None)
    await asyncio.gather(*asking, return_exceptions=True)


async def test_streams_have_no_outage(sim):
    with pytest.raises(ConfigError):
        await sim.inject(Outage(Plane.RELAY_DATA))
