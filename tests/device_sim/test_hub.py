"""The connection to the hub: what goes wrong is told in a sentence, and mended as soon as it can be."""

import asyncio
import contextlib
import gc
import time

import aiohttp
import pytest
import pytest_asyncio
from azure.iot.device import exceptions as sdk
from azure.iot.device.common import transport_exceptions as inner
from azure.iot.device.iothub.pipeline.exceptions import PipelineNotRunning
from structlog.testing import capture_logs

from support.azure import simulating
from support.raw_hub import HubRest
from support.waiting import until
from tunnel_azure_sim import Outage, OutageMode, Plane
from tunnel_azure_sim.delayed import Delayed
from tunnel_azure_sim.state import KeyPair
from tunnel_device_sim.hub import Hub
from tunnel_device_sim.hub_errors import HubError, Trouble, classify
from tunnel_device_sim.tunnels import Answer
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.secret import Secret

ADDRESS = "127.0.0.23"
"""Of our own, since the simulation's MQTT port can not be chosen."""

# The SDK forgets to close sockets of connections that were lost.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest_asyncio.fixture
async def azure(tmp_path):
    async with simulating(tmp_path / "azure", address=ADDRESS) as azure:
        yield azure
    # What it forgot to close is told of when it is collected: here, and not in another test.
    gc.collect()


@pytest.fixture
def logs():
    with capture_logs() as logs:
        yield logs


@pytest.fixture
def troubles(logs):
    return lambda: {
        line["reason"]: line["message"] for line in logs if line["event"] == "hub.unreachable"
    }


async def answer(name, payload):
    return Answer(200, {"name": name, "got": payload})


@pytest_asyncio.fixture
async def hub(azure):
    connection_string = azure.sim.device_connection_string("mri-7")
    made = Hub(connection_string, answer, authorities=azure.authorities, retry=(0.0, 0.05))
    async with running(made):
        yield made
        await azure.sim.heal()


@contextlib.asynccontextmanager
async def running(hub):
    async def run():
        async with hub.connected():
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def answers(azure):
    """Return once the device has been called and has answered, all the way."""
    await until(lambda: azure.sim.device("mri-7").accepts_methods, within=15)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as http:
        status, _, body = await HubRest(azure.sim, http, time.time).method(payload=[1])
    assert (status, body["payload"]) == (200, {"name": "Open", "got": [1]})


@pytest.fixture
def identity(azure):
    return azure.sim._hub(None).existing("mri-7")


@pytest.mark.usefixtures("hub")
async def test_a_refused_key_is_told_with_what_to_do_and_tried_until_it_is_right(
    azure, identity, troubles
):
    right, identity.keys = identity.keys, KeyPair.generate()
    await until(lambda: Trouble.REFUSED in troubles())
    assert "az iot hub device-identity connection-string show" in troubles()[Trouble.REFUSED]
    identity.keys = right
    await answers(azure)


@pytest.mark.usefixtures("hub")
async def test_a_device_that_is_refused_after_a_loss_comes_back_all_the_same(
    azure, identity, troubles
):
    await answers(azure)
    right, identity.keys = identity.keys, KeyPair.generate()
    identity.session.abort()
    await until(lambda: Trouble.REFUSED in troubles())
    identity.keys = right
    await answers(azure)


@pytest.mark.usefixtures("hub")
async def test_a_hub_that_refuses_connections_is_told_and_tried_again(azure, troubles):
    await answers(azure)
    await azure.sim.inject(Outage(Plane.MQTT))
    await until(lambda: Trouble.UNREACHABLE in troubles())
    assert "Connection refused" in troubles()[Trouble.UNREACHABLE]
    await azure.sim.heal()
    await answers(azure)


@pytest.fixture
def received(monkeypatch):
    """Return what has reached the hub, whether it heeds it or not."""
    found, take = [], Delayed.data_received

    def note(self, data):
        found.append(data)
        take(self, data)

    monkeypatch.setattr(Delayed, "data_received", note)
    return found


async def test_a_message_whose_connection_is_lost_is_told_and_no_more(
    azure, identity, received, logs, hub
):
    await answers(azure)
    await azure.sim.inject(Outage(Plane.MQTT, OutageMode.SILENT))
    sending = asyncio.create_task(hub.send_telemetry({"a": 1}, {}))
    await until(lambda: any(b'{"a": 1}' in data for data in received))
    identity.session.abort()
    await azure.sim.heal()
    await sending
    assert [line["reason"] for line in logs if line["event"] == "telemetry.unsent"] == [
        Trouble.LOST
    ]
    await answers(azure)


async def test_a_hub_that_nobody_vouches_for_is_told(azure, troubles):
    hub = Hub(azure.sim.device_connection_string("mri-7"), answer, retry=(0.0, 0.05))
    async with running(hub):
        await until(lambda: Trouble.UNTRUSTED in troubles())
    assert "--ca-file" in troubles()[Trouble.UNTRUSTED]


class FailingClient:
    """Raises one error after the other when it is to connect, and then connects."""

    def __init__(self, errors):
        self.errors = list(errors)
        self.connected = False

    async def connect(self):
        if self.errors:
            raise self.errors.pop(0)
        self.connected = True

    async def send_message(self, message):
        raise sdk.OperationCancelled

    async def shutdown(self):
        raise sdk.OperationTimeout


def raised(error, *causes):
    for outer, cause in zip((error, *causes), causes, strict=False):
        outer.__cause__ = cause
    return error


ERRORS = [
    (sdk.CredentialError("x"), Trouble.REFUSED),
    (raised(sdk.ClientError("x"), inner.TlsExchangeAuthError()), Trouble.UNTRUSTED),
    (
        raised(sdk.ConnectionFailedError("x"), inner.ConnectionFailedError(), OSError("no route")),
        Trouble.UNREACHABLE,
    ),
    (raised(sdk.ClientError("x"), inner.ProtocolProxyError("no proxy")), Trouble.UNREACHABLE),
    (sdk.ConnectionDroppedError("x"), Trouble.LOST),
    (sdk.NoConnectionError("x"), Trouble.LOST),
    (sdk.OperationCancelled("x"), Trouble.LOST),
    (sdk.OperationTimeout("x"), Trouble.TIMEOUT),
    (TimeoutError(), Trouble.TIMEOUT),
    (raised(sdk.ClientError("x"), inner.ProtocolClientError("rc 2")), Trouble.UNEXPECTED),
    (sdk.ServiceError("x"), Trouble.UNEXPECTED),
    (PipelineNotRunning("x"), Trouble.UNEXPECTED),
    (OSError("x"), Trouble.UNEXPECTED),
    (RuntimeError("can't start new thread"), Trouble.UNEXPECTED),
]


@pytest.mark.parametrize(("error", "trouble"), ERRORS)
def test_each_error_is_told_apart_in_a_sentence(error, trouble):
    found = classify(error, "hub.example")
    assert isinstance(found, HubError)
    assert found.trouble is trouble
    assert str(found)[0].isupper() or str(found).startswith(("hub.example", "azure-iot-device"))
    assert str(found).endswith(".") or trouble is Trouble.UNEXPECTED


async def test_no_error_ends_the_device(logs):
    hub = Hub(Secret("HostName=h.example;DeviceId=d;SharedAccessKey=a2V5"), answer, retry=(0.0,))
    await hub._shut_down()
    hub._client = FailingClient(error for error, _ in ERRORS)
    async with running(hub):
        await until(lambda: any(line["event"] == "hub.connected" for line in logs))
        await hub.send_telemetry({}, {})
    told = [line["reason"] for line in logs if line["event"] == "hub.unreachable"]
    assert told == [trouble for _, trouble in ERRORS]
    assert logs[-1]["event"] == "hub.shutdown_incomplete"


async def test_a_connection_string_that_can_not_be_used_is_told():
    with pytest.raises(ProtocolError, match="can not be used: Invalid Symmetric Key"):
        Hub(Secret("HostName=h.example;DeviceId=d;SharedAccessKey=a"), answer)
