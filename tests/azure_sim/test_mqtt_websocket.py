"""MQTT over WebSocket, on the port of the REST API."""

import asyncio
import weakref

import aiohttp
import pytest

from support.sockets import keep_little_on_the_way
from support.waiting import until
from tunnel_azure_sim.hub.mqtt_codec import MAX_PACKET

PATH = "/$iothub/websocket"


@pytest.fixture
def dial(http, rest):
    def connect(path=PATH, protocols=("mqtt",)):
        return http.ws_connect(f"wss://{rest.host}{path}", protocols=protocols)

    return connect


def connect_packet(mqtt, **options):
    """Return the bytes of a CONNECT, taken from the client that the other tests use."""
    sent = []

    class Client:
        def send(self, first, body):
            sent.append(bytes([first, len(body) % 128 | 128, len(body) // 128]) + body)

    mqtt.connect(Client(), **options)
    return sent[0]


async def connected(socket, mqtt):
    await socket.send_bytes(connect_packet(mqtt))
    assert await socket.receive_bytes(timeout=5) == b"\x20\x02\x00\x00"


async def test_packets_are_cut_into_frames_at_will(sim, mqtt, dial):
    async with dial(f"{PATH}?iothub-no-client-cert=true") as socket:
        assert socket.protocol == "mqtt"
        packet = connect_packet(mqtt) + b"\xc0\x00\xc0\x00"
        for start in range(0, len(packet), 50):
            await socket.send_bytes(packet[start : start + 50])
        answers = b""
        while len(answers) < 8:
            answers += await socket.receive_bytes(timeout=5)
        assert answers == b"\x20\x02\x00\x00\xd0\x00\xd0\x00"
        assert sim.device("mri-7").connected
    await sim.until(lambda: not sim.device("mri-7").connected)


async def test_refused_device_gets_its_code_and_the_end(mqtt, dial):
    async with dial() as socket:
        await socket.send_bytes(connect_packet(mqtt, password="wrong"))
        assert await socket.receive_bytes(timeout=5) == b"\x20\x02\x00\x05"
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_text_ends_the_connection(sim, mqtt, dial):
    async with dial() as socket:
        await connected(socket, mqtt)
        await socket.send_str("hello")
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    await sim.until(lambda: not sim.device("mri-7").connected)


async def test_too_large_a_frame_ends_the_connection(mqtt, dial):
    async with dial() as socket:
        await connected(socket, mqtt)
        await socket.send_bytes(b"\x30" + b"\xff" * (MAX_PACKET + 1))
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_session_over_either_way_evicts_the_other(sim, mqtt, dial):
    first = await mqtt.connected()
    async with dial() as socket:
        await connected(socket, mqtt)
        assert await first.ended() == b""
        await mqtt.connected()
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
        assert sim.device("mri-7").connected


async def test_direct_method_over_websocket(mqtt, dial, rest):
    async with dial() as socket:
        await connected(socket, mqtt)
        subscribe = b"\x00\x01\x00\x16$iothub/methods/POST/#\x01"
        await socket.send_bytes(bytes([0x82, len(subscribe)]) + subscribe)
        assert await socket.receive_bytes(timeout=5) == b"\x90\x03\x00\x01\x01"
        error = await rest.error(
            "POST", "/twins/mri-7/methods", json={"methodName": "x", "responseTimeoutInSeconds": 5}
        )
        assert error == (504101, "GatewayTimeout")
        assert b"$iothub/methods/POST/x/?$rid=" in await socket.receive_bytes(timeout=5)


async def test_what_is_no_websocket_of_mqtt_is_refused(http, rest, dial):
    async with http.get(f"https://{rest.host}{PATH}") as response:
        assert response.status == 400
    for protocols in ((), ("amqp",)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await dial(protocols=protocols)
        assert raised.value.status == 400


async def test_stop_closes_websockets(sim, mqtt, dial):
    async with dial() as socket:
        await connected(socket, mqtt)
        await sim.__aexit__(None, None, None)
        assert (await socket.receive(timeout=5)).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        )


@pytest.mark.usefixtures("no_collection")
async def test_a_session_is_freed_with_its_connection(sim, mqtt, dial):
    async with dial() as socket:
        await connected(socket, mqtt)
        session = weakref.ref(sim._hub(None).existing("mri-7").session)
    await until(lambda: session() is None)


async def test_client_that_reads_nothing_is_not_read_from(sim, mqtt, dial):
    async with dial() as socket:
        await connected(socket, mqtt)
        session = sim._hub(None).existing("mri-7").session
        own, its = socket._response.connection.transport, session._transport
        keep_little_on_the_way(own, its)
        own.pause_reading()
        async with asyncio.timeout(15):
            with pytest.raises(TimeoutError):
                await flood(socket)
        assert its.get_write_buffer_size() < 512 * 1024
        own.abort()


async def flood(socket):
    while True:
        await asyncio.wait_for(socket.send_bytes(b"\xc0\x00" * 1_000), 0.5)
        await asyncio.sleep(0)
