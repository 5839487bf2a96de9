"""The operator behind gateways that count its actions, and end it after any one of them."""

import json
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.actions import Actions, arm_action, hub_action, kubernetes_action
from support.certificates import make_certificates
from support.crashes import Theatre, admin_api
from support.gateway import Gateway


@dataclass(frozen=True)
class Gates:
    api: int
    arm: int
    hub: int
    ca: Path
    trusted: Path
    actions: Actions


@pytest.fixture
async def gates(server, azure, tmp_path):
    """Return the ports of the gateways before the API server, ARM and the IoT Hub."""
    certificates = make_certificates(tmp_path)
    ca, trusted = tmp_path / "gates.pem", tmp_path / "trusted.pem"
    ca.write_text(certificates.authority)
    trusted.write_text(certificates.authority + azure.endpoints.ca_file.read_text())
    actions = Actions(kill=lambda: None)
    to_cluster = ssl.create_default_context(cafile=server.ca)
    to_azure = ssl.create_default_context(cafile=azure.endpoints.ca_file)
    hub = f"https://{azure.endpoints.hubs[0].host_name}"
    ports = []
    async with AsyncExitStack() as stack:
        for upstream, trust, naming in (
            (server.url, to_cluster, kubernetes_action),
            (azure.endpoints.arm_base_url, to_azure, arm_action),
            (hub, to_azure, hub_action),
        ):
            gateway = Gateway(upstream, trust, actions, naming)
            ports.append(await stack.enter_async_context(gateway.serving(certificates.server)))
        yield Gates(*ports, ca=ca, trusted=trusted, actions=actions)


@pytest.fixture
def class_options(azure, gates):
    endpoints = azure.endpoints
    return {
        "relay": {
            "subscriptionId": endpoints.subscription_id,
            "resourceGroup": endpoints.resource_group,
            "namespace": endpoints.relay[0].namespace,
            "endpoint": endpoints.relay[0].endpoint,
            "resourceManagerEndpoint": f"https://127.0.0.1:{gates.arm}",
        },
        "iotHub": {
            "hostName": f"127.0.0.1:{gates.hub}",
            "connectTimeoutSeconds": 2,
            "responseTimeoutSeconds": 5,
        },
    }


@pytest.fixture
def service_account_kubeconfig(service_account_kubeconfig, gates):
    body = json.loads(service_account_kubeconfig.read_text())
    body["clusters"][0]["cluster"] = {
        "server": f"https://127.0.0.1:{gates.api}",
        "certificate-authority": str(gates.ca),
    }
    service_account_kubeconfig.write_text(json.dumps(body))
    return service_account_kubeconfig


@pytest.fixture
def operator_environment(operator_environment, gates):
    trusted = str(gates.trusted)
    return operator_environment | {"REQUESTS_CA_BUNDLE": trusted, "SSL_CERT_FILE": trusted}


@pytest.fixture
async def theatre(stage, gates, server):
    gates.actions.kill = stage.operator.strike
    async with admin_api(server.kubeconfig) as api:
        await stage.device.start()
        found = Theatre(
            api, stage.azure, stage.operator, gates.actions, stage.namespace, stage.class_name
        )
        await found.start_operator()
        yield found
