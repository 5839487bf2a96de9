import random

import aiohttp

from support.peers import connected
from tunnel_device_sim.services import WebPage, echoing
from tunnel_device_sim.telemetry import Reading, Sensor
from tunnel_forwarder.clock import Clock


def make_sensor():
    return Sensor(random.Random(0))  # noqa: S311 - weather


async def test_the_page_shows_the_device_as_it_is():
    passed = [0.0]
    page = WebPage("mri-7 <b>", make_sensor(), lambda: 3, Clock(monotonic=lambda: passed[0]))
    async with page.serving(0) as port, aiohttp.ClientSession() as http:
        passed[0] = 3723
        async with http.get(f"http://localhost:{port}/") as answer:
            text = await answer.text()
        async with http.get(f"http://localhost:{port}/api/status") as answer:
            status = await answer.json()
    assert "mri-7 &lt;b&gt;" in text
    assert "1 h 02 min 03 s" in text
    assert "24.0 °C" in text
    assert status == {
        "device": "mri-7 <b>",
        "temperature": 24.0,
        "humidity": 65.0,
        "uptimeSeconds": 3723,
        "requests": 2,
        "tunnels": 3,
    }


async def test_the_echo_sends_all_back_and_then_ends():
    data = bytes(range(256)) * 4096
    async with echoing(0) as port, connected(port, host="localhost", limit=1 << 20) as client:
        client.writer.write(data)
        client.end()
        assert await client.read() == data


async def test_the_echo_survives_a_reset():
    async with echoing(0) as port:
        async with connected(port, host="localhost") as client:
            await client.send(b"x")
            client.reset()
        async with connected(port, host="localhost") as client:
            await client.send(b"y")
            client.end()
            assert await client.read() == b"y"


def test_the_sensor_stays_in_the_samples_bounds():
    sensor = make_sensor()
    readings = [sensor.read() for _ in range(5000)]
    assert all(20 <= r.temperature <= 35 and 60 <= r.humidity <= 80 for r in readings)
    assert len({r.temperature for r in readings}) > 100


def test_warm_rooms_raise_an_alert():
    assert Reading(30.1, 60).properties() == {"temperatureAlert": "true"}
    assert Reading(30.0, 60).properties() == {"temperatureAlert": "false"}
    assert Reading(30.0, 60).body() == {"temperature": 30.0, "humidity": 60}
