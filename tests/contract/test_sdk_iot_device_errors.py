"""Each error that azure-iot-device can raise, unmodified, by what a hub does: both transports, both clients."""

import asyncio
import gc
from dataclasses import replace

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.device import aio as azure_aio
from azure.iot.device import exceptions as sdk
from azure.iot.device.iothub.pipeline import exceptions as inner

from support.ports import skip_without_443, why_no_443
from support.waiting import until
from tunnel_azure_sim import AzureSim, HubConfig, Outage, OutageMode, Plane, SimConfig, Timings

# The SDK forgets to close a socket when it takes no server for good, and two when it dials again.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

SILENT_MQTT = Outage(Plane.MQTT, OutageMode.SILENT)
ANSWER = MethodResponse("1", 200, None)


class Client:
    """The sync or the aio client of one device, called alike."""

    def __init__(self, azure, kind, device, options):
        text = azure.device_connection_string(device).reveal()
        if wrong := options.pop("key", None):
            right = text.partition("SharedAccessKey=")[2].partition(";")[0]
            text = text.replace(right, wrong)
        self.sdk = kind.create_from_connection_string(text, **options)
        self.is_sync = kind is IoTHubDeviceClient
        self.heard = []
        self.sdk.on_background_exception = self.heard.append

    async def call(self, name, *arguments):
        method = getattr(self.sdk, name)
        if self.is_sync:
            await asyncio.to_thread(method, *arguments)
        else:
            await method(*arguments)

    async def listen(self):
        # The setter subscribes, and blocks its thread until the hub has answered, in both clients.
        await asyncio.to_thread(setattr, self.sdk, "on_method_request_received", print)


BOTH_AT_ONCE = None
"""In place of one or the other transport, for what takes a minute: MQTT, and WebSockets where there can be any."""

DEVICES = {"mri-7": IoTHubDeviceClient, "mri-8": azure_aio.IoTHubDeviceClient}


@pytest.fixture(params=[False, True], ids=["mqtt", "websocket"])
def websockets(request):
    return request.param


@pytest.fixture
async def azure(azure_state, websockets):
    config = SimConfig.for_tests(azure_state, timings=Timings(close=1.0))
    if websockets is True:
        skip_without_443(config.address)
    has_443 = websockets is not False and why_no_443(config.address) is None
    hub = HubConfig("demo-hub", tuple(DEVICES), port=443 if has_443 else 0)
    async with AzureSim(replace(config, hubs=(hub,))) as running:
        yield running


@pytest.fixture
async def make(azure, websockets):
    """Return a maker of both clients."""
    made = []

    def both(**options):
        given = {
            "websockets": websockets,
            "connection_retry": False,
            "server_verification_cert": azure.endpoints.ca_file.read_text(),
        }
        new = [Client(azure, kind, name, given | options) for name, kind in DEVICES.items()]
        made.extend(new)
        return new

    yield both
    await azure.heal()
    while made:
        await made.pop().call("shutdown")
    # What it forgot to close is told of when it is collected: here, and not in another test.
    gc.collect()


async def errors_of(calls):
    return [type(one) for one in await asyncio.gather(*calls, return_exceptions=True)]


async def all_raise(error, clients, name, *arguments):
    raised = await errors_of([client.call(name, *arguments) for client in clients])
    assert raised == [error] * len(clients)


def operations(client):
    return [
        client.call("send_message", "{}"),
        client.call("send_method_response", ANSWER),
        client.call("get_twin"),
        client.call("patch_twin_reported_properties", {"a": 1}),
        client.listen(),
    ]


def raised_by_operations(client, name):
    """Return the errors: when it must subscribe first, the sync client raises what is not public."""
    public, own = getattr(sdk, name), getattr(inner, name)
    return [public, public] + [own if client.is_sync else public] * 3


def lose(azure):
    """Cut the devices' connections, and nothing else."""
    for name in DEVICES:
        azure._hub(None).existing(name).session.abort()


async def test_wrong_key(make):
    await all_raise(sdk.CredentialError, make(key="d3Jvbmcga2V5IQ=="), "connect")


async def test_refused_connection(azure, make, websockets):
    await azure.inject(Outage(Plane.HUB if websockets else Plane.MQTT))
    clients = make()
    await all_raise(sdk.ConnectionFailedError, clients, "connect")
    await all_raise(sdk.ConnectionFailedError, clients, "send_message", "{}")


async def test_server_that_nobody_vouches_for(make):
    await all_raise(sdk.ClientError, make(server_verification_cert=None), "connect")


@pytest.mark.parametrize("websockets", [True], indirect=True)
async def test_refused_upgrade(azure, make):
    await azure.inject(Outage(Plane.MQTT))
    await all_raise(sdk.ClientError, make(), "connect")


async def test_client_that_is_shut_down(azure):
    for name, kind in DEVICES.items():
        client = Client(azure, kind, name, {})
        await client.call("shutdown")
        # Documented is ClientError; the check is before what would turn the one into the other.
        assert set(await errors_of(operations(client))) == {inner.PipelineNotRunning}


async def test_twin_that_the_hub_refuses(make):
    await all_raise(sdk.ClientError, make(), "patch_twin_reported_properties", {"not.allowed": 1})


async def test_no_connection(make):
    for client in make(auto_connect=False):
        raised = await errors_of(operations(client))
        assert raised == raised_by_operations(client, "NoConnectionError")


async def test_connection_that_is_lost_before_it_is_agreed(azure, make):
    await azure.inject(SILENT_MQTT)
    # The SDK itself gives the connection up when it has heard nothing for so long.
    await all_raise(sdk.ConnectionDroppedError, make(keep_alive=1), "connect")


async def test_connection_that_is_lost_during_operations(azure, make):
    clients = make(keep_alive=1)
    for client in clients:
        await client.call("connect")
    await azure.inject(SILENT_MQTT)
    raised = await asyncio.gather(*(errors_of(operations(client)) for client in clients))
    assert raised == [raised_by_operations(client, "OperationCancelled") for client in clients]
    for client in clients:
        await until(lambda heard=client.heard: heard)
        assert {type(one) for one in client.heard} == {inner.ConnectionDroppedError}


async def test_connection_that_is_lost_meanwhile(azure, make):
    clients = make()
    for client in clients:
        await client.call("connect")
    lose(azure)
    for client in clients:
        await until(lambda one=client: one.heard and not one.sdk.connected)
        assert {type(one) for one in client.heard} == {inner.ConnectionDroppedError}


async def test_what_is_under_way_outlives_a_loss_for_a_client_that_dials_again(azure, make):
    clients = make(connection_retry=True, connection_retry_interval=1, keep_alive=1)
    for client in clients:
        await client.call("connect")
    await azure.inject(SILENT_MQTT)
    sending = [asyncio.create_task(client.call("send_message", "{}")) for client in clients]
    for client in clients:
        await until(lambda heard=client.heard: heard)
        assert {type(one) for one in client.heard} == {inner.ConnectionDroppedError}
    assert not any(task.done() for task in sending)
    await azure.heal()
    async with asyncio.timeout(10):
        await asyncio.gather(*sending)


@pytest.mark.slow
@pytest.mark.timeout(100)
@pytest.mark.parametrize("websockets", [BOTH_AT_ONCE], ids=["both"], indirect=True)
async def test_connection_that_is_never_agreed(azure, make):
    # Nothing shortens the SDK's own limit of 60 s; with a shorter keep-alive it gives up otherwise.
    await azure.inject(SILENT_MQTT)
    clients = make(keep_alive=120, websockets=False)
    if azure.endpoints.hubs[0].host_name.endswith(":443"):
        clients += make(keep_alive=120, websockets=True)
    await all_raise(sdk.OperationTimeout, clients, "connect")
