"""azure-iot-hub and azure-iot-device, as the tests call them: both block, so in threads."""

import asyncio
import contextlib

import pytest
from azure.iot.device.aio import IoTHubDeviceClient
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod
from msrest.exceptions import HttpOperationError


@contextlib.contextmanager
def closing(connection_string):
    manager = IoTHubRegistryManager.from_connection_string(connection_string.reveal())
    with manager.protocol:
        yield manager


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


def in_thread(function, *arguments):
    return asyncio.to_thread(function, *arguments)
