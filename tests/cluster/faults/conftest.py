"""The operator behind a wire to the API server that breaks, kept running as the kubelet would."""

import shutil
from dataclasses import replace

import pytest

from support.crashes import Theatre, admin_api
from support.faults import TOKEN_SECONDS, Surroundings
from support.kubelet import Kubelet
from support.wire import lead_through
from tunnel_azure_sim import AzureSim, NamespaceConfig, SimConfig
from tunnel_azure_sim.config import Timings


@pytest.fixture
async def azure(azure_keys, tmp_path):
    state = shutil.copytree(azure_keys, tmp_path / "azure")
    config = SimConfig.for_tests(state, timings=Timings(access_token=TOKEN_SECONDS))
    namespaces = (NamespaceConfig("clinic-relay", port=0),)
    async with AzureSim(replace(config, relay_namespaces=namespaces)) as sim:
        yield sim


@pytest.fixture
def service_account_kubeconfig(service_account_kubeconfig, to_api):
    lead_through(to_api, service_account_kubeconfig)
    return service_account_kubeconfig


@pytest.fixture
def surroundings(server, stage, to_api):
    return Surroundings(server, stage.azure, stage.device, to_api)


@pytest.fixture
async def kubelet(stage):
    await stage.device.start()
    async with Kubelet(stage.operator).running() as kubelet:
        yield kubelet


@pytest.fixture
async def theatre(stage, server):
    async with admin_api(server.kubeconfig) as api:
        yield Theatre(api, stage.azure, stage.operator, None, stage.namespace, stage.class_name)


@pytest.fixture(scope="session")
def table(request):
    """Collect a line for each fault, and print them at the end."""
    rows = []
    yield rows
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{'fault':32}{'lasted':>8}{'recovered after':>18}  operator restarted")  # noqa: T201
        for name, lasted, recovered, ends in rows:
            times = ", ".join(ends) or "no"
            print(f"{name:32}{lasted:>6.0f} s{recovered:>16.1f} s  {times}")  # noqa: T201
