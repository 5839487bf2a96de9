"""A running simulated Azure for the official SDKs, which are not told that it is one."""

import asyncio
import shutil
from dataclasses import replace

import pytest
from azure.iot.device import MethodResponse

from support import hyco
from support.iot import closing, device_client, serve
from tunnel_azure_sim import AzureSim, SimConfig, Timings


@pytest.fixture
def page_size(request):
    return getattr(request, "param", 100)


@pytest.fixture
async def sim(azure_state, page_size):
    timings = Timings(close=1.0, method_second=0.05)
    config = SimConfig.for_tests(azure_state, timings=timings)
    async with AzureSim(replace(config, arm_page_size=page_size)) as running:
        yield running


@pytest.fixture(scope="session")
def azure_state_template(tmp_path_factory):
    """A state directory in which the slow keys are made once for all tests."""

    directory = tmp_path_factory.mktemp("azure")

    async def start_once() -> None:
        async with AzureSim(SimConfig.for_tests(directory)):
            pass

    asyncio.run(start_once())
    return directory


@pytest.fixture
def azure_state(azure_state_template, tmp_path):

    return shutil.copytree(azure_state_template, tmp_path / "azure")


@pytest.fixture
def trust(sim, monkeypatch):
    """Trust the simulation's authority as every SDK is documented to be told to."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sim.endpoints.ca_file))
    monkeypatch.setenv("SSL_CERT_FILE", str(sim.endpoints.ca_file))


@pytest.fixture
def workload(sim, trust, monkeypatch, tmp_path):  # noqa: ARG001 - the SDK finds it in the environment
    """Set the environment that Kubernetes' workload identity webhook sets in a Pod."""
    token_file = tmp_path / "federated-token"
    token_file.write_text(sim.assertion().reveal())
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", sim.endpoints.authority_host)
    monkeypatch.setenv("AZURE_TENANT_ID", sim.endpoints.tenant_id)
    monkeypatch.setenv("AZURE_CLIENT_ID", sim.endpoints.client_id)
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(token_file))
    return token_file


@pytest.fixture
def manager(sim, trust):  # noqa: ARG001 - the SDK finds it in the environment
    with closing(sim.endpoints.hubs[0].connection_string) as made:
        yield made


@pytest.fixture
def registry(sim, trust):  # noqa: ARG001 - the SDK finds it in the environment
    with closing(sim.policy_connection_string("iothubowner")) as made:
        yield made


@pytest.fixture
async def device(sim):
    client = device_client(sim)

    async def answer(request):
        payload = {"got": request.payload, "name": request.name}
        await client.send_method_response(
            MethodResponse.create_from_method_request(request, 202, payload)
        )

    await serve(client, answer)
    await sim.until(lambda: sim.device("mri-7").accepts_methods)
    yield client
    await client.shutdown()


@pytest.fixture(scope="session")
def node_modules():
    """Return the folder of hyco-ws and hyco-https."""
    return hyco.install()
