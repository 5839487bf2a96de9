"""ARM over HTTPS: what is refused, and how."""

from dataclasses import replace

import pytest
from yarl import URL

from tunnel_azure_sim import AzureSim, SimConfig
from tunnel_azure_sim.arm.errors import ArmError
from tunnel_azure_sim.arm.resource import Kind, parse_path

VERSION = {"api-version": "2024-01-01"}


@pytest.fixture
def arm(sim, http):
    base = (
        f"{sim.endpoints.arm_base_url}/subscriptions/{sim.endpoints.subscription_id}"
        "/resourceGroups/demo/providers/Microsoft.Relay/namespaces"
    )

    async def call(
        method, path="/demo/hybridConnections/hc", *, params=VERSION, token=None, **body
    ):
        token = sim.access_token().reveal() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with http.request(
            method, URL(base + path, encoded=True), params=params, headers=headers, **body
        ) as response:
            raw = await response.read()
            return response.status, await response.json() if raw else None

    return call


async def code(awaitable):
    status, body = await awaitable
    return status, body["error"]["code"]


async def test_bearer_token_is_required(sim, arm, http):
    assert await code(arm("GET", token="")) == (401, "AuthenticationFailed")
    for token in ("x.y.z", sim.access_token("https://relay.azure.net").reveal()):
        assert await code(arm("GET", token=token)) == (401, "InvalidAuthenticationToken")
    async with http.get(f"{sim.endpoints.arm_base_url}/subscriptions/x") as response:
        assert response.status == 404


@pytest.mark.parametrize("timings", [{"access_token": 1}], indirect=True)
async def test_expired_token_is_refused(sim, arm, clock):
    token = sim.access_token().reveal()
    assert (await arm("PUT", token=token, json={}))[0] == 200
    clock.forward(2)
    assert await code(arm("GET", token=token)) == (401, "InvalidAuthenticationToken")


async def test_api_version_is_required(arm):
    assert await code(arm("GET", params={})) == (400, "MissingApiVersionParameter")
    unknown = arm("GET", params={"api-version": "1999-01-01"})
    assert await code(unknown) == (400, "NoRegisteredProviderFound")


@pytest.mark.parametrize("body", [
    {"data": b"{"},
    {"data": b"\xff\xfe\xfd"},
    {"data": b"[" * 50_000},
    {"json": []},
    {"json": {"properties": []}},
    {"json": {"properties": {"requiresClientAuthorization": "yes"}}},
    {"json": {"properties": {"userMetadata": 7}}},
    {"json": {"properties": {"userMetadata": "x" * 1025}}},
    {"data": b"x" * 100_000},
])  # fmt: skip
async def test_bodies_that_are_refused(sim, arm, body):
    assert (await arm("PUT", **body))[0] in (400, 413)
    assert sim.hybrid_connections() == {}


@pytest.mark.parametrize(("name", "status"), [
    ("a", 200),
    ("Imaging.mri-7_x", 200),
    ("a%2Fb", 200),
    ("x" * 260, 200),
    ("x" * 261, 400),
    ("-a", 400),
    ("a-", 400),
    ("a%20b", 400),
    ("a%3Ab", 400),
])  # fmt: skip
async def test_names_of_hybrid_connections(arm, name, status):
    assert (await arm("PUT", f"/demo/hybridConnections/{name}", json={}))[0] == status


@pytest.mark.parametrize(("name", "rights", "status"), [
    ("send", ["Send"], 200),
    ("r" * 50, ["Listen", "Send", "Manage"], 200),
    ("r" * 51, ["Send"], 400),
    ("_", ["Send"], 400),
    ("x", [], 400),
    ("x", None, 400),
    ("x", ["Dance"], 400),
    ("x", [["Send"]], 400),
    ("x", ["Manage"], 400),
])  # fmt: skip
async def test_rules(arm, name, rights, status):
    await arm("PUT", json={})
    path = f"/demo/hybridConnections/hc/authorizationRules/{name}"
    assert (await arm("PUT", path, json={"properties": {"rights": rights}}))[0] == status


async def test_changed_rights_keep_the_keys(arm):
    await arm("PUT", json={})
    path = "/demo/hybridConnections/hc/authorizationRules/rule"
    await arm("PUT", path, json={"properties": {"rights": ["Send"]}})
    _, before = await arm("POST", f"{path}/listKeys")
    await arm("PUT", path, json={"properties": {"rights": ["Listen"]}})
    _, after = await arm("POST", f"{path}/listKeys")
    assert before == after


async def test_regenerating_keys(arm):
    await arm("PUT", json={})
    path = "/demo/hybridConnections/hc/authorizationRules/rule"
    await arm("PUT", path, json={"properties": {"rights": ["Send"]}})
    _, keys = await arm(
        "POST", f"{path}/regenerateKeys", json={"keyType": "PrimaryKey", "key": "own"}
    )
    assert keys["primaryKey"] == "own"
    for body in ({}, {"keyType": "Third"}, {"keyType": "PrimaryKey", "key": 7}):
        assert (await arm("POST", f"{path}/regenerateKeys", json=body))[0] == 400


async def test_methods_that_do_not_apply(arm):
    for method, path in (
        ("DELETE", "/demo"),
        ("POST", "/demo/hybridConnections/hc"),
        ("PUT", "/demo/hybridConnections"),
        ("PUT", "/demo/authorizationRules"),
        ("GET", "/demo/authorizationRules/RootManageSharedAccessKey/listKeys"),
    ):
        assert await code(arm(method, path)) == (405, "MethodNotAllowed")


async def test_names_do_not_tell_case(arm):
    await arm("PUT", json={"properties": {"userMetadata": "one"}})
    await arm("PUT", "/DEMO/hybridconnections/HC", json={"properties": {"userMetadata": "two"}})
    _, found = await arm("GET")
    assert found["properties"]["userMetadata"] == "two"
    assert found["name"] == "hc"


async def test_listener_count_is_live(arm, relay):
    await relay.listen()
    assert (await arm("GET"))[1]["properties"]["listenerCount"] == 1


async def test_deleting_ends_the_sockets(arm, relay):
    control = await relay.listen()
    assert (await arm("DELETE"))[0] == 200
    assert await control.receive_close() == 1001
    assert (await arm("DELETE"))[0] == 204


async def test_keys_of_arm_open_the_data_plane(arm, relay):
    path = "/demo/hybridConnections/hc/authorizationRules/listen"
    _, keys = await arm("POST", f"{path}/listKeys")
    assert keys["primaryKey"] == relay.hc.rules["listen"].keys.primary.reveal()
    old = relay.token()
    await arm("POST", f"{path}/regenerateKeys", json={"keyType": "PrimaryKey"})
    assert await relay.status(relay.listen(old)) == 401
    await relay.listen()


async def test_bad_page_is_refused(arm):
    assert (await arm("GET", "/demo/hybridConnections", params=VERSION | {"$skip": "x"}))[0] == 400


async def test_calls_are_recorded_without_their_tokens(sim, arm):
    await arm("PUT", json={})
    await arm("GET", "/demo/hybridConnections/none")
    assert [(call.method, call.kind, call.status) for call in sim.arm_calls] == [
        ("PUT", "hybridConnection", 200),
        ("GET", "hybridConnection", 404),
    ]


GROUP = "/subscriptions/s/resourceGroups/g"


@pytest.mark.parametrize(("path", "kind"), [
    ("/providers/Microsoft.Relay/namespaces", Kind.NAMESPACES),
    ("/providers/microsoft.relay/Namespaces/n", Kind.NAMESPACE),
    ("/providers/Microsoft.Relay/namespaces/n/authorizationRules", Kind.RULES),
    ("/providers/Microsoft.Relay/namespaces/n/authorizationRules/r/listkeys", Kind.LIST_KEYS),
    ("/providers/Microsoft.Relay/namespaces/n/hybridConnections/a%2Fb", Kind.HYBRID_CONNECTION),
    ("/providers/Microsoft.Relay/namespaces/n/hybridConnections/h/authorizationRules/r", Kind.RULE),
])  # fmt: skip
def test_paths_are_read(path, kind):
    assert parse_path(GROUP + path).kind is kind


@pytest.mark.parametrize("path", [
    "/",
    "/subscriptions/s",
    GROUP,
    GROUP + "/providers/Microsoft.Compute/namespaces/n",
    GROUP + "/providers/Microsoft.Relay/namespaces/n/wcfRelays/r",
    GROUP + "/providers/Microsoft.Relay/namespaces/n/authorizationRules/r/listKeys/x",
])  # fmt: skip
def test_other_paths_are_not_served(path):
    with pytest.raises(ArmError) as raised:
        parse_path(path)
    assert raised.value.status == 404


def test_names_of_fixed_segments_may_be_names_of_resources():
    path = GROUP + "/providers/Microsoft.Relay/namespaces/n/hybridConnections/namespaces"
    assert parse_path(path).hybrid_connection == "namespaces"


async def test_free_names(sim, http):
    base = f"{sim.endpoints.arm_base_url}/subscriptions/{sim.endpoints.subscription_id}/providers"
    headers = {"Authorization": f"Bearer {sim.access_token().reveal()}"}

    async def check(**body):
        url = f"{base}/Microsoft.Relay/checkNameAvailability"
        async with http.post(url, params=VERSION, json=body, headers=headers) as response:
            return response.status, (await response.json()).get("reason")

    assert await check(name="another-one") == (200, "None")
    assert await check(name="DEMO") == (200, "InvalidName")
    assert await check(name="1-two-three") == (200, "InvalidName")
    assert (await check())[0] == 400
    url = f"{base}/Microsoft.Relay/namespaces"
    async with http.get(url, params=VERSION, headers=headers) as response:
        assert [one["name"] for one in (await response.json())["value"]] == ["demo"]


async def test_network_rules(arm):
    path = "/demo/networkRuleSets/default"
    status, body = await arm("GET", path)
    assert (status, body["properties"]["defaultAction"]) == (200, "Allow")
    rules = [{"ipMask": "10.0.0.0/8", "action": "Allow"}, {"ipMask": "1.1.1.1"}]
    properties = {"defaultAction": "Deny", "ipRules": rules}
    assert (await arm("PUT", path, json={"properties": properties}))[0] == 200
    body = (await arm("GET", path))[1]
    assert body["properties"]["ipRules"][1] == {"ipMask": "1.1.1.1", "action": "Allow"}
    for bad in (
        {"defaultAction": "Maybe"},
        {"ipRules": 7},
        {"ipRules": [{"ipMask": "nowhere"}]},
        {"ipRules": [{"ipMask": "1.1.1.1", "action": "Deny"}]},
    ):
        assert await code(arm("PUT", path, json={"properties": bad})) == (400, "BadRequest")


async def test_sockets_of_an_old_key_live_on_and_new_dials_fail(arm, relay):
    rule = "/demo/hybridConnections/hc/authorizationRules/listen"
    token = relay.token("listen")
    control = await relay.listen(token)
    status, keys = await arm("POST", f"{rule}/regenerateKeys", json={"keyType": "PrimaryKey"})
    assert status == 200
    assert await relay.status(relay.listen(token)) == 401
    sender, _ = await relay.pair(control)
    await sender.close()
    body = {"keyType": "SecondaryKey", "key": "chosen"}
    assert (await arm("POST", f"{rule}/regenerateKeys", json=body))[1]["secondaryKey"] == "chosen"
    assert (await arm("POST", f"{rule}/listKeys"))[1]["primaryKey"] == keys["primaryKey"]


async def test_too_many_requests(state_dir, clock, http):
    config = replace(SimConfig.for_tests(state_dir, clock=clock), arm_throttling=True)
    async with AzureSim(config) as sim:
        url = (
            f"{sim.endpoints.arm_base_url}/subscriptions/{sim.endpoints.subscription_id}"
            "/resourceGroups/demo/providers/Microsoft.Relay/namespaces/demo/hybridConnections/hc"
        )
        headers = {"Authorization": f"Bearer {sim.access_token().reveal()}"}

        async def call(method):
            async with http.request(
                method, url, params=VERSION, headers=headers, ssl=False
            ) as response:
                return response.status, response.headers, await response.read()

        status, headers_of, _ = await call("DELETE")
        assert headers_of["x-ms-ratelimit-remaining-subscription-deletes"] == "199"
        while status == 204:
            status, headers_of, body = await call("DELETE")
        assert (status, headers_of["Retry-After"]) == (429, "1")
        assert b"SubscriptionRequestsThrottled" in body
        assert (await call("GET"))[0] == 404
        clock.forward(1)
        assert (await call("DELETE"))[0] == 204
