"""azure-iot-hub, unmodified, against the identity registry of one hub."""

import asyncio

import pytest
from azure.iot.hub.models import QuerySpecification
from msrest.exceptions import HttpOperationError

from support.iot import device_client, error_of, in_thread


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
