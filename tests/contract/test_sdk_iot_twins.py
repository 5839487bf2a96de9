"""Device twins by azure-iot-device and azure-iot-hub, unmodified."""

import asyncio

import pytest
from azure.iot.device.exceptions import ClientError
from azure.iot.hub.models import Twin, TwinProperties

from support.iot import error_of, in_thread
from support.waiting import until


def wish(**desired):
    return Twin(properties=TwinProperties(desired=desired))


async def test_what_a_device_reports_is_seen_by_the_service(device, manager):
    assert await device.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    await device.patch_twin_reported_properties({"firmware": {"version": "7.1"}, "lamp": "on"})
    await device.patch_twin_reported_properties({"lamp": None})
    twin = await in_thread(manager.get_twin, "mri-7")
    assert twin.properties.reported["firmware"] == {"version": "7.1"}
    assert "lamp" not in twin.properties.reported
    assert (await device.get_twin())["reported"]["$version"] == 3


async def test_what_a_service_wishes_is_heard_by_the_device(device, manager):
    heard = []
    # The setter subscribes, and blocks its thread until the hub has answered.
    await asyncio.to_thread(
        setattr, device, "on_twin_desired_properties_patch_received", heard.append
    )
    twin = await in_thread(manager.update_twin, "mri-7", wish(interval=5))
    assert twin.properties.desired["interval"] == 5
    await in_thread(manager.replace_twin, "mri-7", wish(mode="quiet"), twin.etag)
    await until(lambda: len(heard) == 2)
    assert heard == [{"interval": 5, "$version": 2}, {"mode": "quiet", "$version": 3}]
    assert (await device.get_twin())["desired"] == {"mode": "quiet", "$version": 3}


async def test_errors_of_twins(device, manager):
    # What the SDK makes of the hub's 400.
    with pytest.raises(ClientError):
        await device.patch_twin_reported_properties({"not.allowed": 1})
    stale = in_thread(manager.update_twin, "mri-7", wish(a=1), "stale")
    assert (await error_of(stale))[:2] == (412, "PreconditionFailed")
    nobody = in_thread(manager.update_twin, "nobody", wish(a=1))
    assert (await error_of(nobody))[:2] == (404, "DeviceNotFound")
    twin = await in_thread(manager.get_twin, "mri-7")
    assert (twin.version, twin.properties.reported["$version"]) == (1, 1)
