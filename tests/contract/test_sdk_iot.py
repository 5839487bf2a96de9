"""azure-iot-hub and azure-iot-device, unmodified, against one hub: direct methods and telemetry."""

import asyncio

import pytest
from azure.identity import WorkloadIdentityCredential
from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import ConnectionFailedError, CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod

from support.iot import call, device_client, error_of, serve


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


async def test_device_that_nobody_answers_fails_to_connect(sim):
    text = sim.endpoints.hubs[0].device("mri-7").connection_string.reveal()
    # An address of this machine on which nothing listens.
    nowhere = text.partition("GatewayHostName=")[0] + "GatewayHostName=127.255.255.254"
    client = IoTHubDeviceClient.create_from_connection_string(nowhere, connection_retry=False)
    with pytest.raises(ConnectionFailedError):
        await client.connect()
    await client.shutdown()
