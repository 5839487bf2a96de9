"""azure-iot-hub and azure-iot-device, unmodified, against one hub."""

import asyncio
import contextlib
import socket
from dataclasses import replace

import pytest
from azure.identity import WorkloadIdentityCredential
from azure.iot.device import X509, Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import ConnectionFailedError, CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, QuerySpecification
from cryptography.hazmat.primitives import hashes
from msrest.exceptions import HttpOperationError

from support.certificates import make_self_signed, thumbprint
from tunnel_azure_sim import AzureSim, HubConfig, SimConfig, Timings

# azure-iot-device makes its TLS settings in a way that Python deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:ssl.PROTOCOL_TLSv1_2 is deprecated:DeprecationWarning"
)


@contextlib.contextmanager
def closing(connection_string):
    manager = IoTHubRegistryManager.from_connection_string(connection_string.reveal())
    with manager.protocol:
        yield manager


@pytest.fixture
def manager(sim, trust):  # noqa: ARG001 - the SDK finds it in the environment
    with closing(sim.endpoints.hubs[0].connection_string) as made:
        yield made


@pytest.fixture
def registry(sim, trust):  # noqa: ARG001 - the SDK finds it in the environment
    with closing(sim.policy_connection_string("iothubowner")) as made:
        yield made


def device_client(sim, connection_string=None, kind=IoTHubDeviceClient):
    secret = connection_string or sim.endpoints.hubs[0].device("mri-7").connection_string
    return kind.create_from_connection_string(
        secret.reveal(),
        server_verification_cert=sim.endpoints.ca_file.read_text(),
        connection_retry=False,
        keep_alive=5,
    )


async def serve(client, handler):
    await client.connect()
    # The setter subscribes, and blocks its thread until the hub has answered: not the hub's own, please.
    await asyncio.to_thread(setattr, client, "on_method_request_received", handler)


@pytest.fixture
async def device(sim):
    client = device_client(sim)

    async def answer(request):
        payload = {"got": request.payload, "name": request.name}
        await client.send_method_response(
            MethodResponse.create_from_method_request(request, 202, payload)
        )

    await serve(client, answer)
    await sim.until(lambda: sim.device("mri-7").accepts_methods)
    yield client
    await client.shutdown()


def call(manager, *, name="CreateConnection", payload=None, device="mri-7", response=30, connect=0):
    method = CloudToDeviceMethod(
        method_name=name,
        payload=payload,
        response_timeout_in_seconds=response,
        connect_timeout_in_seconds=connect,
    )
    return asyncio.to_thread(manager.invoke_device_method, device, method)


async def error_of(awaitable):
    with pytest.raises(HttpOperationError) as raised:
        await awaitable
    response = raised.value.response
    return response.status_code, response.headers["iothub-errorcode"], response.text


@pytest.mark.usefixtures("device")
async def test_method_reaches_the_device_and_comes_back(sim, manager):
    secret = {"relay": {"listenToken": "SharedAccessSignature sr=x"}, "port": 8080}
    result = await call(manager, payload=secret)
    assert result.status == 202
    assert result.payload == {"got": secret, "name": "CreateConnection"}
    (record,) = sim.method_calls
    assert record.status == 202
    assert record.payload == {"relay": {"listenToken": "(hidden)"}, "port": 8080}


@pytest.mark.usefixtures("workload", "device")
async def test_method_with_an_entra_token(sim):
    with WorkloadIdentityCredential() as credential:
        manager = await asyncio.to_thread(
            IoTHubRegistryManager.from_token_credential,
            sim.endpoints.hubs[0].host_name,
            credential,
        )
        with manager.protocol:
            result = await call(manager, payload={"a": 1})
    assert result.status == 202


async def test_method_waits_for_the_device_to_come_online(sim, manager):
    calling = asyncio.create_task(call(manager, connect=100))
    await sim.until(lambda: len(sim.method_calls) == 1)
    client = device_client(sim)

    async def answer(request):
        await client.send_method_response(MethodResponse(request.request_id, 200, None))

    await serve(client, answer)
    assert (await calling).status == 200
    await client.shutdown()


async def test_offline_device_is_not_online(sim, manager):
    status, name, text = await error_of(call(manager))
    assert (status, name) == (404, "DeviceNotOnline")
    assert '\\"errorCode\\": 404103' in text
    assert sim.method_calls[-1].error == 404103


async def test_unknown_and_disabled_devices_are_not_found(sim, manager, registry, device):
    assert (await error_of(call(manager, device="nobody")))[:2] == (404, "DeviceNotFound")
    known = await asyncio.to_thread(registry.get_device, "mri-7")
    keys = known.authentication.symmetric_key
    await asyncio.to_thread(
        registry.update_device_with_sas,
        "mri-7",
        known.etag,
        keys.primary_key,
        keys.secondary_key,
        "disabled",
    )
    assert (await error_of(call(manager)))[:2] == (404, "DeviceNotFound")
    await sim.until(lambda: not device.connected)


async def test_silent_device_times_out(sim, manager):
    client = device_client(sim)

    async def say_nothing(request):
        pass

    await serve(client, say_nothing)
    await sim.until(lambda: sim.device("mri-7").accepts_methods)
    assert (await error_of(call(manager, response=5)))[:2] == (504, "GatewayTimeout")
    await client.shutdown()


async def test_time_outs_out_of_range_are_refused(manager):
    assert (await error_of(call(manager, response=4)))[:2] == (400, "ArgumentInvalid")
    assert (await error_of(call(manager, connect=301)))[:2] == (400, "ArgumentInvalid")


async def test_registry_makes_devices_that_can_connect(sim, registry, manager):
    made = await asyncio.to_thread(registry.create_device_with_sas, "ct-1", None, None, "enabled")
    assert made.connection_state == "Disconnected"
    assert made.authentication.symmetric_key.primary_key
    client = device_client(sim, sim.device_connection_string("ct-1"))
    await client.connect()
    found = await asyncio.to_thread(registry.get_device, "ct-1")
    assert found.connection_state == "Connected"
    twin = await asyncio.to_thread(manager.get_twin, "ct-1")
    assert twin.connection_state == "Connected"
    await asyncio.to_thread(registry.delete_device, "ct-1")
    await sim.until(lambda: not client.connected)
    await client.shutdown()


async def test_service_policy_may_not_read_the_registry(manager):
    with pytest.raises(HttpOperationError) as raised:
        await asyncio.to_thread(manager.get_device, "mri-7")
    assert raised.value.response.status_code == 401


async def test_module_is_called(sim, registry, manager):
    await asyncio.to_thread(registry.create_module_with_sas, "mri-7", "agent", "", None, None)
    client = device_client(sim, sim.device_connection_string("mri-7/agent"), IoTHubModuleClient)

    async def answer(request):
        await client.send_method_response(MethodResponse(request.request_id, 200, request.payload))

    await serve(client, answer)
    await sim.until(lambda: sim.device("mri-7/agent").accepts_methods)
    result = await asyncio.to_thread(
        manager.invoke_device_module_method,
        "mri-7",
        "agent",
        CloudToDeviceMethod(method_name="Open", payload=[1, 2]),
    )
    assert result.payload == [1, 2]
    await client.shutdown()


async def test_telemetry_is_taken_and_counted(sim, device):
    for _ in range(3):
        await device.send_message(Message('{"temperature": 21.5}'))
    assert sim.device("mri-7").telemetry_messages == 3


async def test_second_session_evicts_the_first(sim, device):
    second = device_client(sim)
    await second.connect()
    await sim.until(lambda: not device.connected)
    assert sim.device("mri-7").connected
    await second.shutdown()


async def test_wrong_key_is_refused(sim):
    right = sim.endpoints.hubs[0].device("mri-7").connection_string.reveal()
    key = right.split("SharedAccessKey=")[1].split(";")[0]
    client = IoTHubDeviceClient.create_from_connection_string(
        right.replace(key, "d3Jvbmcga2V5IQ=="),
        server_verification_cert=sim.endpoints.ca_file.read_text(),
        connection_retry=False,
    )
    with pytest.raises(CredentialError):
        await client.connect()
    await client.shutdown()


def in_thread(function, *arguments):
    return asyncio.to_thread(function, *arguments)


@pytest.fixture
def certificate(tmp_path):
    return make_self_signed(tmp_path, "x-1")


@pytest.fixture
async def x509_device(registry, certificate):
    prints = (thumbprint(certificate[0], hashes.SHA256()), "0" * 64)
    return await in_thread(registry.create_device_with_x509, "x-1", *prints, "enabled")


def x509_client(sim, files, kind=IoTHubDeviceClient, **names):
    certificate_file, key_file = files
    return kind.create_from_x509_certificate(
        X509(str(certificate_file), str(key_file)),
        "demo-hub.azure-devices.net",
        gateway_hostname=sim.endpoints.hubs[0].host_name.rpartition(":")[0],
        server_verification_cert=sim.endpoints.ca_file.read_text(),
        connection_retry=False,
        **names,
    )


async def test_device_with_a_certificate_is_made_called_and_refused(
    sim, manager, x509_device, certificate, tmp_path
):
    assert x509_device.authentication.type == "selfSigned"
    assert x509_device.authentication.x509_thumbprint.primary_thumbprint
    client = x509_client(sim, certificate, device_id="x-1")

    async def answer(request):
        await client.send_method_response(MethodResponse(request.request_id, 200, request.payload))

    await serve(client, answer)
    await sim.until(lambda: sim.device("x-1").accepts_methods)
    assert (await call(manager, device="x-1", payload=[1])).payload == [1]
    await client.shutdown()
    stranger = x509_client(sim, make_self_signed(tmp_path, "stranger"), device_id="x-1")
    with pytest.raises(CredentialError):
        await stranger.connect()
    await stranger.shutdown()


async def test_module_with_a_certificate(sim, registry, certificate):
    prints = (thumbprint(certificate[0], hashes.SHA1()), "0" * 40)  # noqa: S303 - Azure's other kind
    await in_thread(registry.create_module_with_x509, "mri-7", "agent", "", *prints)
    names = {"device_id": "mri-7", "module_id": "agent"}
    client = x509_client(sim, certificate, IoTHubModuleClient, **names)
    await client.connect()
    assert sim.device("mri-7/agent").connected
    await client.shutdown()


async def test_registry_lists_devices_and_modules(registry):
    for name in ("a", "b", "c"):
        await in_thread(registry.create_device_with_sas, name, None, None, "disabled")
    await in_thread(registry.create_module_with_sas, "a", "agent", "", None, None)
    assert len(await in_thread(registry.get_devices)) == 4
    assert [one.device_id for one in await in_thread(registry.get_devices, 2)] == ["mri-7", "a"]
    assert [one.module_id for one in await in_thread(registry.get_modules, "a")] == ["agent"]
    query = QuerySpecification(query="SELECT * FROM devices")
    first = await in_thread(registry.query_iot_hub, query, None, 3)
    rest = await in_thread(registry.query_iot_hub, query, first.continuation_token, 3)
    found = [twin.device_id for twin in (*first.items, *rest.items)]
    assert found == ["mri-7", "a", "b", "c"]
    assert rest.continuation_token is None
    counts = await in_thread(registry.get_device_registry_statistics)
    assert (counts.total_device_count, counts.disabled_device_count) == (4, 3)
    live = await in_thread(registry.get_service_statistics)
    assert live.connected_device_count == 0


async def test_registry_errors(registry):
    async def refused(function, *arguments):
        return (await error_of(in_thread(function, *arguments)))[:2]

    make = registry.create_device_with_sas
    assert await refused(make, "mri-7", None, None, "enabled") == (409, "DeviceAlreadyExists")
    assert await refused(registry.get_device, "nobody") == (404, "DeviceNotFound")
    assert await refused(registry.get_module, "mri-7", "no") == (404, "ModuleNotFound")
    assert await refused(make, "not allowed", None, None, "enabled") == (400, "ArgumentInvalid")
    update = registry.update_device_with_sas
    stale = await refused(update, "mri-7", "stale", "eA==", "eQ==", "enabled")
    assert stale == (412, "PreconditionFailed")
    await in_thread(registry.create_module_with_sas, "mri-7", "m", "", None, None)
    again = await refused(registry.create_module_with_sas, "mri-7", "m", "", None, None)
    assert again == (409, "ModuleAlreadyExistsOnDevice")


async def test_wrong_policy_key_is_refused(sim, trust):  # noqa: ARG001 - the SDK finds it in the environment
    text = sim.endpoints.hubs[0].connection_string.reveal()
    wrong = text.partition("SharedAccessKey=")[0] + "SharedAccessKey=d3Jvbmcga2V5IQ=="
    manager = IoTHubRegistryManager.from_connection_string(wrong)
    with manager.protocol:
        assert (await error_of(call(manager)))[:2] == (401, "IotHubUnauthorizedAccess")


@pytest.fixture
async def silent(sim):
    """Return the open calls of a device that answers nothing."""
    client = device_client(sim)

    async def say_nothing(_request):
        pass

    await serve(client, say_nothing)
    await sim.until(lambda: sim.device("mri-7").accepts_methods)
    yield sim._hub(None).existing("mri-7").calls
    await client.shutdown()


async def test_loss_in_mid_call(sim, manager, silent):
    calling = asyncio.create_task(error_of(call(manager, response=300)))
    await sim.until(lambda: len(silent) == 1)
    sim._hub(None).existing("mri-7").session.abort()
    assert (await calling)[:2] == (404, "DeviceConnectionClosedRemotely")


async def test_eviction_in_mid_call(sim, manager, silent):
    calling = asyncio.create_task(error_of(call(manager, response=300)))
    await sim.until(lambda: len(silent) == 1)
    second = device_client(sim)
    await second.connect()
    assert (await calling)[:2] == (400, "ConnectionForcefullyClosedOnNewConnection")
    await second.shutdown()


async def test_too_many_calls_in_flight(manager, silent):
    for number in range(50):
        silent[str(number)] = asyncio.get_running_loop().create_future()
    error = await error_of(call(manager))
    silent.clear()  # Nobody waits for these.
    assert error[:2] == (403, "DeviceMaximumInflightMethodExceeded")


@pytest.mark.parametrize(("limits", "expected"), [
    ({"tier": "B1"}, (403, "OperationNotAvailableInCurrentTier")),
    ({"daily_messages": 0}, (403, "IotHubQuotaExceeded")),
    ({"tier": "S1"}, (429, "ThrottlingException")),
])  # fmt: skip
async def test_limits_of_the_hub(azure_state, monkeypatch, limits, expected):
    config = SimConfig.for_tests(azure_state, timings=Timings(close=1.0))
    config = replace(config, hubs=(HubConfig("demo-hub", ("mri-7",), port=0, **limits),))
    async with AzureSim(config) as sim:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sim.endpoints.ca_file))
        with closing(sim.endpoints.hubs[0].connection_string) as manager:
            # urllib3 repeats nothing by itself here: the answer is the first one.
            manager.protocol.config.retry_policy.retries = 0
            if expected[0] == 429:
                assert (await error_of(call(manager, payload="x" * 100_000)))[0] == 404
            assert (await error_of(call(manager, payload="x" * 100_000)))[:2] == expected


@pytest.fixture
async def https_sim(azure_state):
    """A simulation whose REST API has the port that azure-iot-device dials for WebSockets."""
    config = SimConfig.for_tests(azure_state, timings=Timings(close=1.0))
    with socket.socket() as probe:
        try:
            probe.bind((config.address, 443))
        except OSError as error:
            pytest.skip(f"azure-iot-device dials port 443, which can not be had here: {error}")
    config = replace(config, hubs=(HubConfig("demo-hub", ("mri-7",), port=443),))
    async with AzureSim(config) as running:
        yield running


async def test_device_over_websocket(https_sim, monkeypatch):
    sim = https_sim
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sim.endpoints.ca_file))
    client = IoTHubDeviceClient.create_from_connection_string(
        sim.endpoints.hubs[0].device("mri-7").connection_string.reveal(),
        server_verification_cert=sim.endpoints.ca_file.read_text(),
        websockets=True,
        connection_retry=False,
    )

    async def answer(request):
        await client.send_method_response(MethodResponse(request.request_id, 200, request.payload))

    await serve(client, answer)
    await sim.until(lambda: sim.device("mri-7").accepts_methods)
    for number in range(3):
        await client.send_message(Message("x" * 60_000 * number))
    assert sim.device("mri-7").telemetry_messages == 3
    with closing(sim.endpoints.hubs[0].connection_string) as manager:
        payload = "y" * 100_000
        assert (await call(manager, payload=payload)).payload == payload
    await client.shutdown()
    await sim.until(lambda: not sim.device("mri-7").connected)


async def test_device_that_nobody_answers_fails_to_connect(sim):
    text = sim.endpoints.hubs[0].device("mri-7").connection_string.reveal()
    # An address of this machine on which nothing listens.
    nowhere = text.partition("GatewayHostName=")[0] + "GatewayHostName=127.255.255.254"
    client = IoTHubDeviceClient.create_from_connection_string(nowhere, connection_retry=False)
    with pytest.raises(ConnectionFailedError):
        await client.connect()
    await client.shutdown()
