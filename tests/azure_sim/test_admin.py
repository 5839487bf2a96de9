"""The API by which tests in another process put faults in and look at what happened; and its commands."""

import asyncio
import json
import sys
from dataclasses import replace

import aiohttp
import pytest

from tunnel_azure_sim import AzureSim, HubConfig, NamespaceConfig, SimConfig


@pytest.fixture
async def admin(sim_with_admin):
    async with aiohttp.ClientSession(sim_with_admin.endpoints.admin_url) as session:

        async def call(method, path, *, expect=200, **body):
            async with session.request(method, path, json=body or None) as response:
                assert response.status == expect
                return await response.json()

        yield call


@pytest.fixture
async def sim_with_admin(state_dir):
    config = replace(
        SimConfig.for_tests(state_dir),
        admin_port=0,
        relay_namespaces=(NamespaceConfig("one", 0), NamespaceConfig("two", 0)),
        hubs=(HubConfig("east", ("a",), 0), HubConfig("west", ("b",), 0)),
    )
    async with AzureSim(config) as sim:
        yield sim


async def make(sim, namespace, name):
    url = (
        f"{sim.endpoints.arm_base_url}/subscriptions/{sim.endpoints.subscription_id}/resourceGroups"
        f"/demo/providers/Microsoft.Relay/namespaces/{namespace}/hybridConnections/{name}"
    )
    headers = {"Authorization": f"Bearer {sim.access_token().reveal()}"}
    async with (
        aiohttp.ClientSession() as session,
        session.put(
            url, params={"api-version": "2024-01-01"}, json={}, headers=headers, ssl=False
        ) as response,
    ):
        return response.status


async def test_views(sim_with_admin, admin):
    await make(sim_with_admin, "one", "x")
    await make(sim_with_admin, "two", "y")
    shown = await admin("GET", "/hybrid-connections")
    assert [(one["namespace"], one["name"], one["listeners"]) for one in shown] == [
        ("one", "x", 0), ("two", "y", 0),
    ]  # fmt: skip
    devices = await admin("GET", "/devices")
    assert [(one["hub"], one["id"], one["acceptsMethods"]) for one in devices] == [
        ("east", "a", False), ("west", "b", False),
    ]  # fmt: skip
    calls = await admin("GET", "/arm-calls")
    assert [(call["method"], call["kind"], call["status"]) for call in calls] == [
        ("PUT", "hybridConnection", 200)
    ] * 2
    assert await admin("GET", "/arm-counts") == {"PUT": 2}
    assert await admin("GET", "/method-calls") == []


async def test_faults_go_in_and_out(sim_with_admin, admin):
    await admin("POST", "/faults", kind="arm-failure", status=503, verb="PUT")
    assert await make(sim_with_admin, "one", "x") == 503
    await admin("POST", "/faults", kind="outage", plane="arm", mode="503")
    assert await make(sim_with_admin, "one", "x") == 503
    [fault] = await admin("GET", "/faults")
    assert fault == {"kind": "outage", "plane": "arm", "mode": "503"}
    assert await admin("DELETE", "/faults") == []
    assert await make(sim_with_admin, "one", "x") == 200


async def test_reset(sim_with_admin, admin):
    await make(sim_with_admin, "one", "x")
    await admin("POST", "/faults", kind="latency", plane="arm", seconds=9)
    sim_with_admin._hub("east").remove("a")
    await admin("POST", "/reset")
    for path in ("/hybrid-connections", "/arm-calls", "/faults"):
        assert await admin("GET", path) == []
    assert len(await admin("GET", "/devices")) == 2


async def test_what_is_not_understood_is_told(admin):
    for path, body in (
        ("/faults", {"kind": "nothing"}),
        ("/drop", {"target": "everybody"}),
        ("/drop", {"target": "all", "colour": 1}),
        ("/drop", {"target": "all", "hybridConnection": 1}),
    ):
        assert (await admin("POST", path, expect=400, **body))["error"]
    assert await admin("POST", "/drop", target="all") == {"dropped": 0}


async def test_body_that_is_no_json(sim_with_admin):
    async with (
        aiohttp.ClientSession(sim_with_admin.endpoints.admin_url) as session,
        session.post("/faults", data=b"[" * 20_000) as response,
    ):
        assert response.status == 400


@pytest.mark.usefixtures("sim_with_admin")
async def test_commands(state_dir):
    async def command(*words):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tunnel_azure_sim", *words, "--state-dir", str(state_dir),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, error = await asyncio.wait_for(process.communicate(), 20)
        return process.returncode, json.loads(output) if output else error.decode()

    fault = {"kind": "latency", "plane": "arm", "seconds": 0.5, "jitter": 0.0}
    assert await command("faults", "latency", "plane=arm", "seconds=0.5") == (0, [fault])
    assert await command("show", "faults") == (0, [fault])
    assert await command("drop", "target=control", "half-open=true") == (0, {"dropped": 0})
    assert await command("faults", "clear") == (0, [])
    status, error = await command("faults", "latency", "plane=moon", "seconds=1")
    assert status == 2
    assert "relay-data" in error
    assert await command("reset") == (0, {})


async def test_off_unless_asked_for(sim):
    assert sim.endpoints.admin_url is None
