"""What outlives a restart, and the command itself."""

import asyncio
import contextlib
import json
import signal
import ssl
import stat
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import aiohttp
import pytest
from cryptography import x509

from tunnel_azure_sim import AzureSim, HubConfig, NamespaceConfig, SimConfig
from tunnel_azure_sim.errors import ConfigError, StateError
from tunnel_azure_sim.identity.tokens import Tokens, load_or_create_key
from tunnel_azure_sim.relay.model import Right, Rule
from tunnel_azure_sim.state import KeyPair, KeyStore
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.urls import RelayEndpoint


async def start_and_stop(config):
    async with AzureSim(config) as sim:
        return sim.endpoints, sim.endpoints.ca_file.read_bytes()


def keys_of(endpoints):
    secrets = [endpoints.relay[0].root_connection_string, endpoints.hubs[0].connection_string]
    secrets.append(endpoints.hubs[0].devices[0].connection_string)
    return [secret.reveal().partition("Key=")[2].split(";")[0] for secret in secrets]


async def test_credentials_and_authority_outlive_a_restart(state_dir):
    first, authority = await start_and_stop(SimConfig.for_tests(state_dir))
    second, same = await start_and_stop(SimConfig.for_tests(state_dir))
    assert same == authority
    assert keys_of(first) == keys_of(second)


async def test_regenerated_root_key_outlives_a_restart(state_dir, http, sim):
    name = "RootManageSharedAccessKey"
    url = (
        f"{sim.endpoints.arm_base_url}/subscriptions/{sim.endpoints.subscription_id}/resourceGroups"
        f"/demo/providers/Microsoft.Relay/namespaces/demo/authorizationRules/{name}/regenerateKeys"
    )
    async with http.post(
        url,
        params={"api-version": "2024-01-01"},
        json={"keyType": "PrimaryKey"},
        headers={"Authorization": f"Bearer {sim.access_token().reveal()}"},
    ) as response:
        key = (await response.json())["primaryKey"]
    assert KeyStore(state_dir).get_or_create(f"relay/demo/{name}").primary.reveal() == key


async def test_endpoints_file_is_there_while_it_runs(state_dir):
    file = state_dir / "endpoints.json"
    async with AzureSim(SimConfig.for_tests(state_dir)) as sim:
        content = json.loads(file.read_text())
        assert content["relay"][0]["endpoint"] == sim.endpoints.relay[0].endpoint
        assert content["hubs"][0]["devices"][0]["id"] == "mri-7"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not file.exists()


async def test_private_files_are_private(state_dir):
    await start_and_stop(SimConfig.for_tests(state_dir))
    for name in ("ca-key.pem", "server-key.pem", "identity-key.pem", "keys.json"):
        assert stat.S_IMODE((state_dir / name).stat().st_mode) == 0o600
    assert not list(state_dir.glob(".*"))


async def test_failed_start_leaves_nothing_behind(state_dir):
    config = SimConfig.for_tests(state_dir)
    async with AzureSim(config):
        port = 8883
        with pytest.raises(OSError, match="in use"):
            async with AzureSim(replace(config, identity_port=port)):
                pass
    async with AzureSim(config):
        pass


async def test_certificate_names_everything(state_dir):
    config = replace(SimConfig.for_tests(state_dir), dns_names=("azure.sim.test",))
    await start_and_stop(config)
    certificate = x509.load_pem_x509_certificate((state_dir / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "azure.sim.test",
        "localhost",
        "demo.servicebus.windows.net",
        "demo-hub.azure-devices.net",
    }
    addresses = {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {config.address, "127.0.0.1"}


async def test_several_namespaces_and_hubs(state_dir):
    config = replace(
        SimConfig.for_tests(state_dir),
        relay_namespaces=(NamespaceConfig("one", 0), NamespaceConfig("two", 0)),
        hubs=(HubConfig("east", ("a",), 0), HubConfig("west", ("b",), 0)),
    )
    async with AzureSim(config) as sim:
        assert [entry.namespace for entry in sim.endpoints.relay] == ["one", "two"]
        assert sim.hybrid_connections("two") == {}
        assert sim.device("b", "west").id == "b"
        with pytest.raises(KeyError):
            sim.endpoints.hubs[0].device("b")


@pytest.mark.parametrize(("file", "content"), [
    ("keys.json", "{"),
    ("keys.json", '{"version": 2, "keys": {}}'),
    ("keys.json", '{"version": 1, "keys": []}'),
    ("keys.json", '{"version": 1, "keys": {"x": {"primary": "only"}}}'),
    ("ca.pem", "nonsense"),
    ("ca-key.pem", "nonsense"),
    ("identity-key.pem", "nonsense"),
])  # fmt: skip
async def test_broken_state_is_told(state_dir, file, content):
    (state_dir / file).write_text(content)
    with pytest.raises(StateError, match=str(state_dir)) as raised:
        await start_and_stop(SimConfig.for_tests(state_dir))
    assert raised.value.__cause__ is None


def test_configurations_that_can_not_be(tmp_path):
    with pytest.raises(ConfigError):
        SimConfig("0.0.0.0", tmp_path)  # noqa: S104
    with pytest.raises(ConfigError):
        SimConfig("127.0.0.1", tmp_path, hubs=(HubConfig("x"), HubConfig("x")))


def test_secrets_do_not_show():
    pair = KeyPair.generate()
    rule = Rule("r", frozenset(Right), pair)
    for shown in (repr(pair), str(pair), repr(rule)):
        assert pair.primary.reveal() not in shown


async def test_stop_waits_for_nobody_long(state_dir, http):
    config = SimConfig.for_tests(state_dir)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(AzureSim(config))
        token = sim.access_token("https://iothubs.azure.net").reveal()
        context = ssl.create_default_context(cafile=str(sim.endpoints.ca_file))
        writers = []
        # Clients that connect and never say a word, let alone answer the end of TLS.
        for port in (8883, int(sim.endpoints.relay[0].endpoint.rpartition(":")[2].strip("/"))):
            for _ in range(3):
                _, writer = await asyncio.open_connection(config.address, port, ssl=context)
                writer.transport.pause_reading()
                writers.append(writer)

        async def call():
            url = f"https://{sim.endpoints.hubs[0].host_name}/twins/mri-7/methods"
            body = {"methodName": "Open", "connectTimeoutInSeconds": 300}
            with contextlib.suppress(aiohttp.ClientError):
                await http.post(
                    url,
                    params={"api-version": "2021-04-12"},
                    json=body,
                    ssl=context,
                    headers={"Authorization": f"Bearer {token}"},
                )

        calling = asyncio.create_task(call())
        await sim.until(lambda: len(sim.method_calls) == 1)
        began = loop.time()
    assert loop.time() - began < 4
    await calling
    for writer in writers:
        writer.transport.abort()


ARGUMENTS = [
    "--device", "mri-7", "--identity-port", "0", "--arm-port", "0", "--relay-port", "0", "--hub-port", "0",
]  # fmt: skip


async def run(address, directory, *more):
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tunnel_azure_sim",
        "--address", address, "--state-dir", str(directory), *ARGUMENTS, *more,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def running(directory):
    """Run the command, with a loop of its own kind; yields the process and the endpoints."""
    process = await run(SimConfig.for_tests(directory).address, directory)
    try:
        line = b""
        async with asyncio.timeout(20):
            while b"sim.ready" not in line:
                line = await process.stdout.readline()
                assert line, "the command ended"
        yield process, json.loads((directory / "endpoints.json").read_text())
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_command_starts_tells_and_stops(state_dir):
    async with running(state_dir) as (process, content):
        address = content["hubs"][0]["hostName"].rpartition(":")[0]
        second = await run(address, state_dir.parent / "other")
        output, _ = await asyncio.wait_for(second.communicate(), 20)
        assert second.returncode == 2
        assert json.loads(output.splitlines()[-1])["event"] == "sim.failed"
        process.send_signal(signal.SIGTERM)
        output, _ = await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 0
    assert not (state_dir / "endpoints.json").exists()
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[-1]["event"] == "sim.stopped"
    for entry in (
        content["relay"][0]["rootConnectionString"],
        content["hubs"][0]["connectionString"],
    ):
        assert entry.rpartition("Key=")[2].encode() not in output


async def test_command_relays(state_dir, dialler):
    async with running(state_dir) as (process, content):
        context = ssl.create_default_context(cafile=content["caFile"])
        endpoint = RelayEndpoint.parse(content["relay"][0]["endpoint"])
        relay = dialler(context, endpoint.host, endpoint.port)
        token = await create_hybrid_connection(content, context, endpoint, state_dir)
        control = await relay.websocket("/$hc/hc?sb-hc-action=listen", token)
        dialling = asyncio.create_task(relay.websocket("/$hc/hc?sb-hc-action=connect", token))
        address = (await control.receive()).json["accept"]["address"]
        listener = await relay.websocket("/" + address.split("/", 3)[3])
        sender = await dialling
        for size in (0, 1, 70_000, 1_000_000):
            await sender.send(2, b"x" * size)
            assert len((await listener.receive()).payload) == size
        await sender.close(1000, b"Shutdown")
        assert await listener.receive_close() == 1000
        await listener.send(2, b"after the close")
        assert (await sender.receive()).payload == b"after the close"
        listener.abort()
        await sender.ended()
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 5)
    assert process.returncode == 0


async def create_hybrid_connection(content, context, endpoint, state_dir):
    """Create `hc` by way of ARM; return a token of the namespace."""
    tokens = Tokens(
        load_or_create_key(state_dir), tenant_id=content["identity"]["tenantId"], clock=time.time
    )
    bearer = tokens.issue("https://management.azure.com", subject="test", seconds=60)
    arm = content["arm"]
    url = (
        f"{arm['baseUrl']}/subscriptions/{arm['subscriptionId']}/resourceGroups/demo/providers"
        "/Microsoft.Relay/namespaces/demo/hybridConnections/hc"
    )
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.put(
            url,
            params={"api-version": "2024-01-01"},
            json={},
            headers={"Authorization": f"Bearer {bearer}"},
        ) as response,
    ):
        assert response.status == 200
    key = content["relay"][0]["rootConnectionString"].rpartition("SharedAccessKey=")[2]
    return sas.sign(
        f"http://{endpoint.host}/",
        key=sas.relay_key(key),
        rule="RootManageSharedAccessKey",
        expires_at=int(time.time()) + 60,
    ).reveal()
