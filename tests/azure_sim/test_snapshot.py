"""What clients made outlives a restart when that is asked for, even the death of the process."""

import asyncio
import json
import stat
import sys
from dataclasses import replace

import aiohttp
import pytest

from tunnel_azure_sim import AzureSim, HubConfig, NamespaceConfig, SimConfig
from tunnel_azure_sim.errors import StateError
from tunnel_azure_sim.snapshot import STATE_FILE

HC = "hybridConnections/dev"


class Client:
    def __init__(self, sim, session):
        self.sim, self.session = sim, session

    async def arm(self, method, path, namespace="one", **body):
        url = (
            f"{self.sim.endpoints.arm_base_url}/subscriptions/{self.sim.endpoints.subscription_id}"
            f"/resourceGroups/demo/providers/Microsoft.Relay/namespaces/{namespace}/{path}"
        )
        return await self._call(
            method, url, "2024-01-01", f"Bearer {self.sim.access_token().reveal()}", body
        )

    async def hub(self, method, path, index=0, **body):
        host = self.sim.endpoints.hubs[index].host_name
        token = self.sim.access_token("https://iothubs.azure.net").reveal()
        return await self._call(
            method, f"https://{host}{path}", "2021-04-12", f"Bearer {token}", body
        )

    async def _call(self, method, url, version, authorization, body):
        async with self.session.request(
            method,
            url,
            params={"api-version": version},
            headers={"Authorization": authorization},
            json=body or None,
            ssl=False,
        ) as response:
            raw = await response.read()
            return response.status, json.loads(raw) if raw else None


def config_of(state_dir, *, keep=True):
    return replace(
        SimConfig.for_tests(state_dir),
        keep_state=keep,
        relay_namespaces=(NamespaceConfig("one", 0), NamespaceConfig("two", 0)),
        hubs=(HubConfig("east", ("a",), 0), HubConfig("west", ("b",), 0)),
    )


@pytest.fixture
async def started(state_dir):
    async with aiohttp.ClientSession() as session:

        def start(**options):
            return AzureSim(config_of(state_dir, **options)), lambda sim: Client(sim, session)

        yield start


async def fill(client):
    """Make something in each of two namespaces and two hubs; return what must be there later."""
    for namespace in ("one", "two"):
        body = {"properties": {"userMetadata": namespace, "requiresClientAuthorization": False}}
        assert (await client.arm("PUT", HC, namespace, **body))[0] == 200
    rule = f"{HC}/authorizationRules/r"
    await client.arm("PUT", rule, properties={"rights": ["Listen"]})
    await client.arm("POST", f"{rule}/regenerateKeys", keyType="PrimaryKey")
    await client.arm("PUT", "networkRuleSets/default", properties={"defaultAction": "Deny"})
    await client.arm("PUT", "authorizationRules/all", properties={"rights": ["Send"]})
    assert (await client.hub("PUT", "/devices/new", deviceId="new"))[0] == 200
    assert (await client.hub("PUT", "/devices/new/modules/m", moduleId="m"))[0] == 200
    assert (await client.hub("PUT", "/devices/new", 1, deviceId="new", status="disabled"))[0] == 200
    wish = {"tags": {"site": "x"}, "properties": {"desired": {"interval": 5}}}
    assert (await client.hub("PATCH", "/twins/a", **wish))[0] == 200
    sim_hub = client.sim._hub("east")
    sim_hub.existing("a").twin.report(b'{"firmware": "7"}', client.sim._journal.now())
    sim_hub.existing("a").filters.add("$iothub/methods/POST/#")
    sim_hub.save()
    return await look(client)


async def look(client):
    paths = (HC, f"{HC}/authorizationRules", "networkRuleSets/default", "authorizationRules")
    seen = [await client.arm("GET", path) for path in paths]
    seen.append(await client.arm("POST", f"{HC}/authorizationRules/r/listKeys", x=1))
    seen.append(await client.arm("GET", HC, "two"))
    seen += [await client.hub("GET", f"/devices/{name}") for name in ("a", "new", "new/modules/m")]
    seen.append(await client.hub("GET", "/devices/new", 1))
    seen.append(await client.hub("GET", "/twins/a"))
    text = json.dumps(seen)
    # Ports are chosen anew, and show in connection strings.
    return [part for part in text.split(";") if "Endpoint" not in part]


async def test_everything_comes_back(started, state_dir):
    sim, client_of = started()
    async with sim:
        before = await fill(client_of(sim))
        # Two hubs and two namespaces know nothing of each other.
        assert (await client_of(sim).hub("GET", "/devices/a", 1))[0] == 404
        assert (await client_of(sim).arm("GET", f"{HC}/authorizationRules/r", "two"))[0] == 404
    assert stat.S_IMODE((state_dir / STATE_FILE).stat().st_mode) == 0o600
    sim, client_of = started()
    async with sim:
        assert await look(client_of(sim)) == before
        assert sim._hub("east").existing("a").filters == {"$iothub/methods/POST/#"}
        await sim.reset()
        assert sim.all_hybrid_connections() == []
    sim, _ = started()
    async with sim:
        assert sim.all_hybrid_connections() == []
        assert [one.id for one in sim.all_devices()] == ["a", "b"]


async def test_nothing_comes_back_when_it_is_not_asked_for(started, state_dir):
    sim, client_of = started(keep=False)
    async with sim:
        await fill(client_of(sim))
    assert not (state_dir / STATE_FILE).exists()
    sim, _ = started(keep=False)
    async with sim:
        assert sim.all_hybrid_connections() == []


@pytest.mark.parametrize("content", [
    "{", "[]", '{"version": 2}', '{"version": 1, "namespaces": {"one": {}}}',
    '{"version": 1, "hubs": {"east": [{"id": 1}]}}',
    '{"version": 1, "hubs": {"east": 7}}',
])  # fmt: skip
async def test_broken_file_is_told(started, state_dir, content):
    (state_dir / STATE_FILE).write_text(content)
    with pytest.raises(StateError):
        async with started()[0]:
            pass


async def test_killed_process_keeps_what_it_answered(state_dir):
    address = SimConfig.for_tests(state_dir).address
    ports = ["--identity-port", "0", "--arm-port", "0", "--relay-port", "0", "--hub-port", "0"]

    async def start():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tunnel_azure_sim", "--address", address, "--state", "file",
            "--state-dir", str(state_dir), "--admin-port", "0", *ports,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(20):
            while b"sim.ready" not in await process.stdout.readline():
                pass
        return process, json.loads((state_dir / "endpoints.json").read_text())

    process, content = await start()
    identity, arm = content["identity"], content["arm"]
    async with aiohttp.ClientSession() as session:
        form = {
            "grant_type": "client_credentials",
            "client_id": identity["clientId"],
            "client_secret": identity["clientSecret"],
            "scope": "https://management.azure.com/.default",
        }
        url = f"{identity['authorityHost']}/{identity['tenantId']}/oauth2/v2.0/token"
        async with session.post(url, data=form, ssl=False) as response:
            token = (await response.json())["access_token"]
        url = (
            f"{arm['baseUrl']}/subscriptions/{arm['subscriptionId']}/resourceGroups/demo/providers"
            f"/Microsoft.Relay/namespaces/demo/{HC}?api-version=2024-01-01"
        )
        headers = {"Authorization": f"Bearer {token}"}
        async with session.put(url, json={}, headers=headers, ssl=False) as response:
            assert response.status == 200
        process.kill()
        await process.communicate()
        process, content = await start()
        async with session.get(f"{content['adminUrl']}/hybrid-connections") as response:
            assert [one["name"] for one in await response.json()] == ["dev"]
        process.kill()
        await process.communicate()
