"""azure-iot-device with certificates, and over WebSocket, unmodified."""

from dataclasses import replace

import pytest
from azure.iot.device import X509, Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub.models import CloudToDeviceMethod
from cryptography.hazmat.primitives import hashes

from support.certificates import make_self_signed, make_signed, thumbprint
from support.iot import call, closing, in_thread, serve
from support.ports import skip_without_443
from tunnel_azure_sim import AzureSim, HubConfig, SimConfig, Timings


@pytest.fixture
def certificate(tmp_path):
    return make_self_signed(tmp_path, "x-1")


@pytest.fixture
async def x509_device(registry, certificate):
    prints = (thumbprint(certificate[0], hashes.SHA256()), "0" * 64)
    return await in_thread(registry.create_device_with_x509, "x-1", *prints, "enabled")


def x509_client(sim, files, kind=IoTHubDeviceClient, **names):
    certificate_file, key_file = files
    return kind.create_from_x509_certificate(
        X509(str(certificate_file), str(key_file)),
        "demo-hub.azure-devices.net",
        gateway_hostname=sim.endpoints.hubs[0].host_name.rpartition(":")[0],
        server_verification_cert=sim.endpoints.ca_file.read_text(),
        connection_retry=False,
        **names,
    )


async def test_device_with_a_certificate_is_made_called_and_refused(
    sim, manager, x509_device, certificate, tmp_path
):
    assert x509_device.authentication.type == "selfSigned"
    assert x509_device.authentication.x509_thumbprint.primary_thumbprint
    client = x509_client(sim, certificate, device_id="x-1")

    async def answer(request):
        await client.send_method_response(MethodResponse(request.request_id, 200, request.payload))

    await serve(client, answer)
    await sim.until(lambda: sim.device("x-1").accepts_methods)
    assert (await call(manager, device="x-1", payload=[1])).payload == [1]
    await client.shutdown()
    stranger = x509_client(sim, make_self_signed(tmp_path, "stranger"), device_id="x-1")
    with pytest.raises(CredentialError):
        await stranger.connect()
    await stranger.shutdown()


async def test_module_with_a_certificate(sim, registry, certificate):
    prints = (thumbprint(certificate[0], hashes.SHA1()), "0" * 40)  # noqa: S303 - Azure's other kind
    await in_thread(registry.create_module_with_x509, "mri-7", "agent", "", *prints)
    names = {"device_id": "mri-7", "module_id": "agent"}
    client = x509_client(sim, certificate, IoTHubModuleClient, **names)
    await client.connect()
    assert sim.device("mri-7/agent").connected
    await client.shutdown()


@pytest.fixture
def authority(tmp_path):
    return make_signed(tmp_path, "authority", None, ca=True)


@pytest.fixture
async def trusting_sim(azure_state, authority, monkeypatch):
    """A simulation whose hub knows an authority, and the device mri-7."""
    config = SimConfig.for_tests(azure_state, timings=Timings(close=1.0))
    hub = HubConfig("demo-hub", ("mri-7",), port=0, authorities=(authority[0],))
    async with AzureSim(replace(config, hubs=(hub,))) as sim:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sim.endpoints.ca_file))
        yield sim


async def test_device_whose_certificate_an_authority_signed(trusting_sim, authority, tmp_path):
    sim = trusting_sim
    with closing(sim.policy_connection_string("iothubowner")) as registry:
        make = registry.create_device_with_certificate_authority
        made = await in_thread(make, "x-1", "enabled")
    assert made.authentication.type == "certificateAuthority"
    client = x509_client(sim, make_signed(tmp_path, "x-1", authority), device_id="x-1")
    await client.connect()
    assert sim.device("x-1").connected
    await client.shutdown()
    stranger = x509_client(sim, make_signed(tmp_path, "x-2", authority), device_id="x-1")
    with pytest.raises(CredentialError):
        await stranger.connect()
    await stranger.shutdown()


async def test_module_whose_certificate_an_authority_signed(trusting_sim, authority, tmp_path):
    sim, names = trusting_sim, {"device_id": "mri-7", "module_id": "agent"}
    with closing(sim.policy_connection_string("iothubowner")) as registry:
        make = registry.create_module_with_certificate_authority
        made = await in_thread(make, "mri-7", "agent", "")
    assert made.authentication.type == "certificateAuthority"

    def client(common_name, issuer=authority):
        files = make_signed(tmp_path, common_name, issuer)
        return x509_client(sim, files, IoTHubModuleClient, **names)

    agent = client("mri-7/agent")

    async def answer(request):
        await agent.send_method_response(MethodResponse(request.request_id, 200, request.payload))

    await serve(agent, answer)
    await sim.until(lambda: sim.device("mri-7/agent").accepts_methods)
    with closing(sim.endpoints.hubs[0].connection_string) as manager:
        method = CloudToDeviceMethod(method_name="Open", payload=[1])
        call = manager.invoke_device_module_method
        assert (await in_thread(call, "mri-7", "agent", method)).payload == [1]
    await agent.shutdown()
    for stranger in (client("mri-7"), client("agent"), client("mri-7/agent", None)):
        with pytest.raises(CredentialError):
            await stranger.connect()
        await stranger.shutdown()


@pytest.fixture
async def https_sim(azure_state):
    """A simulation whose REST API has the port that azure-iot-device dials for WebSockets."""
    config = SimConfig.for_tests(azure_state, timings=Timings(close=1.0))
    skip_without_443(config.address)
    config = replace(config, hubs=(HubConfig("demo-hub", ("mri-7",), port=443),))
    async with AzureSim(config) as running:
        yield running


async def test_device_over_websocket(https_sim, monkeypatch):
    sim = https_sim
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sim.endpoints.ca_file))
    client = IoTHubDeviceClient.create_from_connection_string(
        sim.endpoints.hubs[0].device("mri-7").connection_string.reveal(),
        server_verification_cert=sim.endpoints.ca_file.read_text(),
        websockets=True,
        connection_retry=False,
    )

    async def answer(request):
        await client.send_method_response(MethodResponse(request.request_id, 200, request.payload))

    await serve(client, answer)
    await sim.until(lambda: sim.device("mri-7").accepts_methods)
    for number in range(3):
        await client.send_message(Message("x" * 60_000 * number))
    assert sim.device("mri-7").telemetry_messages == 3
    with closing(sim.endpoints.hubs[0].connection_string) as manager:
        payload = "y" * 100_000
        assert (await call(manager, payload=payload)).payload == payload
    await client.shutdown()
    await sim.until(lambda: not sim.device("mri-7").connected)
