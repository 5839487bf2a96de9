"""Lists, statistics, modules and thumbprints of the identity registry."""

import pytest

SHA_1, SHA_256 = "ab" * 20, "CD" * 32


async def put(rest, path, **body):
    return (await rest.call("PUT", path, json=body))[2]


async def test_devices_are_listed_without_their_modules(rest):
    for name in ("b", "a", "c"):
        await put(rest, f"/devices/{name}")
    await put(rest, "/devices/a/modules/agent")
    _, _, devices = await rest.call("GET", "/devices")
    assert [one["deviceId"] for one in devices] == ["mri-7", "b", "a", "c"]
    _, _, first = await rest.call("GET", "/devices?top=2")
    assert [one["deviceId"] for one in first] == ["mri-7", "b"]
    _, _, modules = await rest.call("GET", "/devices/a/modules")
    assert [one["moduleId"] for one in modules] == ["agent"]
    assert (await rest.error("GET", "/devices/nobody/modules"))[0] == 404001


@pytest.mark.parametrize("top", ["0", "1001", "-1", "x", "9" * 5000])
async def test_tops_that_are_refused(rest, top):
    assert (await rest.error("GET", f"/devices?top={top}"))[0] == 400004


async def test_query_for_all_devices_is_answered_in_pages(rest):
    for name in ("a", "b"):
        await put(rest, f"/devices/{name}")
    seen, page = [], {"x-ms-max-item-count": "2"}
    while True:
        _, headers, twins = await rest.call(
            "POST", "/devices/query", json={"query": "SELECT *  FROM devices"}, headers=page
        )
        assert headers["x-ms-item-type"] == "Twin"
        seen += [one["deviceId"] for one in twins]
        if "x-ms-continuation" not in headers:
            break
        page["x-ms-continuation"] = headers["x-ms-continuation"]
    assert seen == ["mri-7", "a", "b"]
    for body in ({"query": "SELECT * FROM c"}, {"query": 7}, {}):
        assert (await rest.error("POST", "/devices/query", json=body))[0] == 400004


async def test_statistics(mqtt, rest):
    await put(rest, "/devices/off", status="disabled")
    await mqtt.connected()
    _, _, registry = await rest.call("GET", "/statistics/devices")
    assert registry == {"totalDeviceCount": 2, "enabledDeviceCount": 1, "disabledDeviceCount": 1}
    token = rest.token("service")
    _, _, service = await rest.call("GET", "/statistics/service", token=token)
    assert service == {"connectedDeviceCount": 1}
    assert (await rest.error("GET", "/statistics/devices", token=token))[0] == 401003


async def test_modules_have_codes_of_their_own(rest):
    path = "/devices/mri-7/modules/agent"
    assert await rest.error("GET", path) == (404010, "ModuleNotFound")
    assert (
        await rest.error("POST", "/twins/mri-7/modules/agent/methods", json={"methodName": "x"})
    )[0] == 404010
    await put(rest, path)
    assert await rest.error("PUT", path, json={}) == (409301, "ModuleAlreadyExistsOnDevice")


async def test_fifty_first_module_is_refused(rest):
    for number in range(50):
        await put(rest, f"/devices/mri-7/modules/m{number}")
    error = await rest.error("PUT", "/devices/mri-7/modules/m50", json={})
    assert error == (413003, "TooManyModulesOnDevice")


async def test_thumbprints_take_the_place_of_keys(rest):
    prints = {"primaryThumbprint": SHA_1, "secondaryThumbprint": SHA_256}
    own = {"type": "selfSigned", "x509Thumbprint": prints}
    made = await put(rest, "/devices/x", authentication=own)
    assert made["authentication"] == {
        "type": "selfSigned",
        "symmetricKey": {"primaryKey": None, "secondaryKey": None},
        "x509Thumbprint": {"primaryThumbprint": SHA_1.upper(), "secondaryThumbprint": SHA_256},
    }
    _, _, twin = await rest.call("GET", "/twins/x")
    assert twin["authenticationType"] == "selfSigned"
    match = {"If-Match": "*"}
    _, _, back = await rest.call(
        "PUT", "/devices/x", json={"authentication": {"type": "sas"}}, headers=match
    )
    assert back["authentication"]["symmetricKey"]["primaryKey"]
