"""The whole device as a process, on the simulated Azure: azure-iot-device over MQTT, calls over REST."""

import asyncio
import json
import socket
import ssl
import sys
import time
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
import pytest_asyncio

from support.azure import simulating
from support.waiting import until
from tunnel_forwarder.link import Link
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.method import CloseRequest, Forward, OpenAnswer, OpenRequest
from tunnel_forwarder.protocol.urls import connect_url
from tunnel_forwarder.transport import Dialer, tls_context

ADDRESS = "127.0.0.22"
"""Of our own, since the simulation's MQTT port can not be chosen."""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Hub:
    """Calls methods as azure-iot-hub does on the wire."""

    def __init__(self, azure):
        self.azure = azure
        self.url = f"https://{azure.sim.endpoints.hubs[0].host_name}"
        pairs = dict(
            part.partition("=")[::2]
            for part in azure.sim.endpoints.hubs[0].connection_string.reveal().split(";")
        )
        self.token = sas.sign(
            pairs["HostName"],
            key=sas.hub_key(pairs["SharedAccessKey"]),
            rule=pairs["SharedAccessKeyName"],
            expires_at=int(time.time()) + 600,
        )

    async def call(self, name, payload):
        async with (
            aiohttp.ClientSession(headers={"Authorization": self.token.reveal()}) as http,
            http.post(
                f"{self.url}/twins/mri-7/methods?api-version=2021-04-12",
                json={"methodName": name, "payload": payload, "responseTimeoutInSeconds": 10},
                ssl=ssl.create_default_context(cadata=self.azure.authorities),
            ) as answer,
        ):
            body = await answer.json()
            assert answer.status == 200, body
            return body["status"], body.get("payload")


@pytest_asyncio.fixture
async def azure(tmp_path):
    async with simulating(tmp_path / "azure", address=ADDRESS) as azure:
        await azure.make_hybrid_connection("hc")
        await azure.make_hybrid_connection("mri-7")
        yield azure


@pytest_asyncio.fixture
async def device(azure, tmp_path):
    """A running device process, ready for calls; it must have logged no token when it is over."""
    ready, web, echo = tmp_path / "ready", free_port(), free_port()
    connection_string = tmp_path / "connection-string"
    connection_string.write_text(azure.sim.device_connection_string("mri-7").reveal())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunnel_device_sim",
        "--connection-string-file", str(connection_string),
        "--ca-file", str(azure.sim.endpoints.ca_file),
        "--web-port", str(web), "--echo-port", str(echo),
        "--allow", f"localhost:{echo}", "--telemetry-interval", "0.1",
        "--ready-file", str(ready),
        stderr=asyncio.subprocess.PIPE,
        env={"AZRELAY_CONN_STRING": azure.relay.root_connection_string.reveal(),
             "SERVICE_PORT": str(echo)},
    )  # fmt: skip
    process.echo_port = echo
    await until(lambda: ready.exists() or process.returncode is not None, within=15)
    assert process.returncode is None, await process.stderr.read()
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        _, log = await asyncio.wait_for(process.communicate(), 6)
        assert b"SharedAccessSignature sr=" not in log
        assert b"sb-hc-" not in log
        for line in log.splitlines():
            json.loads(line)


async def echo_works(azure, name, port_name):
    link = await Dialer(tls_context(azure.authorities)).dial(
        connect_url(azure.endpoint, name, tracking_id="t"), Link(), token=azure.token(name)
    )
    link.write(b"\x01\x00\x00" + bytes([len(port_name)]) + port_name.encode())
    assert await link.read() == b"\x01\x00\x00"
    link.write(b"echo")
    assert await link.read() == b"echo"
    link.close()


async def test_the_operators_calls_and_the_samples(azure, device):
    hub = Hub(azure)
    request = OpenRequest(
        tunnel="imaging/mri-7",
        uid="uid-1",
        correlation_id="c-1",
        endpoint=azure.endpoint,
        hybrid_connection="hc",
        listen_token=azure.token("hc"),
        forwards=(Forward("echo", "localhost", device.echo_port),),
        expires_at=datetime.now(UTC) + timedelta(hours=1),
    )
    status, payload = await hub.call("CreateConnection", request.to_payload())
    assert status == 200
    assert OpenAnswer.from_payload(payload).listening
    assert azure.sim.listeners("hc") == 1
    await echo_works(azure, "hc", "echo")

    status, payload = await hub.call("CreateConnection", None)
    assert (status, payload["servicePort"]) == (200, device.echo_port)
    await echo_works(azure, "mri-7", "test")

    close = CloseRequest("imaging/mri-7", "uid-1", "c-2").to_payload()
    assert (await hub.call("DeleteConnection", close))[0] == 200
    assert (await hub.call("DeleteConnection", None))[0] == 204
    await until(lambda: azure.sim.listeners("hc") == azure.sim.listeners("mri-7") == 0)
    assert (await hub.call("CreateConnection", {"version": 9}))[0] == 400
    await until(lambda: azure.sim.device("mri-7").telemetry_messages >= 2)

    device.terminate()
    assert await asyncio.wait_for(device.wait(), 5) == 0


@pytest.mark.parametrize("name", ["Reboot"])
async def test_unknown_methods_are_answered(azure, device, name):
    assert device.returncode is None
    assert (await Hub(azure).call(name, None))[0] == 404


async def test_without_a_hub_the_device_runs_its_services_and_stops_at_once(tmp_path):
    (tmp_path / "connection-string").write_text(
        "HostName=nowhere.invalid;GatewayHostName=127.0.0.29;DeviceId=mri-7;SharedAccessKey=a2V5"
    )
    web = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunnel_device_sim",
        "--connection-string-file", str(tmp_path / "connection-string"),
        "--web-port", str(web), "--echo-port", "0",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async for line in process.stderr:
        if b"hub.unreachable" in line:
            break
    async with aiohttp.ClientSession() as http, http.get(f"http://localhost:{web}/") as answer:
        assert "mri-7" in await answer.text()
    process.terminate()
    await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 0


async def test_when_the_hub_is_lost_tunnels_run_to_their_deadline_and_sigterm_is_obeyed(
    azure, device
):
    """The relay goes with the hub here, so that what is left is the device's own clock."""
    request = OpenRequest(
        tunnel="imaging/mri-7",
        uid="uid-1",
        correlation_id="c-1",
        endpoint=azure.endpoint,
        hybrid_connection="hc",
        listen_token=azure.token("hc"),
        forwards=(Forward("echo", "localhost", device.echo_port),),
        expires_at=datetime.now(UTC) + timedelta(seconds=3),
    )
    assert (await Hub(azure).call("CreateConnection", request.to_payload()))[0] == 200
    await azure.sim.__aexit__(None, None, None)
    ended = False
    async for line in device.stderr:
        entry = json.loads(line)
        if entry["event"] == "remote.ended":
            ended = entry["reason"] == "Expired"
            break
    assert ended
    device.terminate()
    await asyncio.wait_for(device.communicate(), 5)
    assert device.returncode == 0
