"""The hub's REST API: credentials, errors, identities, and time-outs of direct methods."""

import asyncio

import pytest

METHODS = "/twins/mri-7/methods"
CALL = {"methodName": "Open"}


async def test_credentials(sim, rest, clock):
    hub = sim._hub(None)
    for token, code in (
        ("", 401003),
        ("Basic eDp5", 401003),
        ("Bearer not.a.jwt", 401002),
        (f"Bearer {sim.access_token().reveal()}", 401002),
        ("SharedAccessSignature sr=x", 401002),
        (rest.token(expires_at=int(clock()) - 1), 401002),
        (rest.token(audience="elsewhere.azure-devices.net"), 401002),
        (rest.token(key=hub.policies["service"].keys.primary), 401002),
        (rest.token("device"), 401003),
        (rest.token("registryReadWrite"), 401003),
    ):
        assert (await rest.error("POST", METHODS, token=token, json=CALL))[0] == code
    for token in (
        rest.token("service"),
        rest.token("service", audience="demo-hub.azure-devices.net"),
        rest.token("service", audience=f"{rest.host}/twins/mri-7"),
        f"Bearer {sim.access_token('https://iothubs.azure.net').reveal()}",
    ):
        assert (await rest.error("POST", METHODS, token=token, json=CALL))[0] == 404103
    assert (await rest.error("GET", "/devices/mri-7", token=rest.token("service")))[0] == 401003


@pytest.mark.parametrize(("body", "code"), [
    ({"data": b"{"}, 400004),
    ({"data": b"[]"}, 400004),
    ({"data": b"[" * 50_000}, 400004),
    ({"json": {}}, 400004),
    ({"json": {"methodName": ""}}, 400004),
    ({"json": {"methodName": 7}}, 400004),
    ({"json": CALL | {"responseTimeoutInSeconds": 4}}, 400004),
    ({"json": CALL | {"responseTimeoutInSeconds": 301}}, 400004),
    ({"json": CALL | {"responseTimeoutInSeconds": "30"}}, 400004),
    ({"json": CALL | {"connectTimeoutInSeconds": -1}}, 400004),
    ({"json": CALL | {"connectTimeoutInSeconds": True}}, 400004),
    ({"json": CALL | {"payload": "x" * 128 * 1024}}, 413001),
    ({"data": b"x" * 200_000}, 413001),
])  # fmt: skip
async def test_bodies_that_are_refused(rest, body, code):
    assert (await rest.error("POST", METHODS, **body))[0] == code


async def test_api_version_is_required(rest):
    for version in (None, "1999-01-01"):
        error = await rest.error("POST", METHODS, version=version, json=CALL)
        assert error == (400001, "InvalidProtocolVersion")


@pytest.mark.parametrize("path", ["/", "/twins", "/twins/a/b/c", "/devices/a/mods/b", "/jobs/v2"])
async def test_other_paths_are_not_served(rest, path):
    assert (await rest.error("GET", path))[0] == 404000
    assert (await rest.error("PATCH", "/devices/mri-7"))[0] == 404000


async def test_response_time_out(mqtt, rest):
    await mqtt.subscribed()
    call = CALL | {"responseTimeoutInSeconds": 5}
    assert await rest.error("POST", METHODS, json=call) == (504101, "GatewayTimeout")


async def test_connect_time_out(rest):
    began = asyncio.get_running_loop().time()
    call = CALL | {"connectTimeoutInSeconds": 5}
    assert await rest.error("POST", METHODS, json=call) == (404103, "DeviceNotOnline")
    # A second of a time-out lasts 0.05 s here.
    assert asyncio.get_running_loop().time() - began > 0.2


async def test_connected_device_without_subscription_is_not_online(mqtt, rest):
    await mqtt.connected()
    assert (await rest.error("POST", METHODS, json=CALL))[0] == 404103


async def test_too_many_open_calls(sim, mqtt, rest):
    client = await mqtt.subscribed()
    calls = [
        asyncio.create_task(
            rest.error("POST", METHODS, json=CALL | {"responseTimeoutInSeconds": 60})
        )
        for _ in range(50)
    ]
    await sim.until(lambda: len(sim._hub(None).existing("mri-7").calls) == 50)
    error = await rest.error("POST", METHODS, json=CALL)
    assert error == (403800, "DeviceMaximumInflightMethodExceeded")
    client.writer.transport.abort()
    assert {code for code, _ in await asyncio.gather(*calls)} == {404104}


async def test_caller_that_leaves_frees_the_call(sim, mqtt, rest):
    await mqtt.subscribed()
    calling = asyncio.create_task(rest.method())
    await sim.until(lambda: len(sim._hub(None).existing("mri-7").calls) == 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_device_is_made_changed_and_removed(rest):
    path = "/devices/ct-1"
    assert (await rest.error("GET", path))[0] == 404001
    status, _, made = await rest.call("PUT", path, json={"deviceId": "ct-1"})
    assert status == 200
    assert made["status"] == "enabled"
    keys = made["authentication"]["symmetricKey"]
    assert keys["primaryKey"] != keys["secondaryKey"]
    assert (await rest.error("PUT", path, json={}))[0] == 409001
    stale = {"If-Match": '"stale"'}
    assert (await rest.error("PUT", path, json={}, headers=stale))[0] == 412001
    match = {"If-Match": f'"{made["etag"]}"'}
    body = {"status": "disabled", "authentication": {"type": "sas", "symmetricKey": {
        "primaryKey": "cHJpbWFyeQ==", "secondaryKey": "c2Vjb25kYXJ5"}}}  # fmt: skip
    _, _, changed = await rest.call("PUT", path, json=body, headers=match)
    assert changed["status"] == "disabled"
    assert changed["authentication"]["symmetricKey"]["primaryKey"] == "cHJpbWFyeQ=="
    assert changed["etag"] != made["etag"]
    assert (await rest.error("POST", "/twins/ct-1/methods", json=CALL))[0] == 404001
    assert (await rest.error("DELETE", path, headers=stale))[0] == 412001
    assert (await rest.call("DELETE", path, headers={"If-Match": "*"}))[0] == 204
    assert (await rest.error("DELETE", path))[0] == 404001


@pytest.mark.parametrize(("body", "code"), [
    ({"status": "sleeping"}, 400004),
    ({"deviceId": "other"}, 400004),
    ({"authentication": {"symmetricKey": {"primaryKey": "not base64!", "secondaryKey": "eA=="}}}, 400004),
    ({"authentication": {"symmetricKey": {"primaryKey": "Schl\u00fcssel", "secondaryKey": "eA=="}}}, 400004),
    ({"authentication": {"type": "other"}}, 400004),
    ({"authentication": {"type": "selfSigned"}}, 400005),
    ({"authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "AB"}}}, 400004),
])  # fmt: skip
async def test_devices_that_can_not_be(sim, rest, body, code):
    assert (await rest.error("PUT", "/devices/ct-1", json=body))[0] == code
    assert "ct-1" not in sim._hub(None).identities


async def test_ids_are_checked(rest):
    for path in ("/devices/with%20blank", f"/devices/{'x' * 129}", "/devices/a%2Fb"):
        assert (await rest.error("PUT", path, json={}))[0] == 400004
    assert (await rest.error("PUT", "/devices/nobody/modules/m", json={}))[0] == 404001


async def test_disabling_ends_the_session_of_device_and_module(mqtt, rest):
    await rest.call("PUT", "/devices/mri-7/modules/agent", json={})
    clients = [
        await mqtt.connected(),
        await mqtt.connected(device="mri-7/agent", password=mqtt.token("mri-7/agent")),
    ]
    await rest.call("PUT", "/devices/mri-7", json={"status": "disabled"}, headers={"If-Match": "*"})
    for client in clients:
        assert await client.ended() == b""


async def test_twin_shows_the_connection_to_the_service_policy(mqtt, rest):
    token = rest.token("service")
    _, _, twin = await rest.call("GET", "/twins/mri-7", token=token)
    assert twin["connectionState"] == "Disconnected"
    await mqtt.connected()
    _, _, twin = await rest.call("GET", "/twins/mri-7", token=token)
    assert twin["connectionState"] == "Connected"
    assert (await rest.error("GET", "/twins/nobody"))[0] == 404001
