"""The whole operator, as its own process under its own RBAC, against a real API server and simulated Azure."""

import asyncio
import base64
import json
import shutil
import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.kubectl import Kubectl, eventually, install
from support.node import pretend_node
from support.processes import Program
from support.tunnels import tunnel_body
from support.wire import Wire
from tunnel_azure_sim import AzureSim, NamespaceConfig, SimConfig
from tunnel_dev import apiserver

RELAY_NAMESPACE = "clinic-relay"


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.apiserver)
    # It is about what all the others made the operator do.
    items.sort(key=lambda item: item.path == Path(__file__).with_name("test_rbac.py"))


@pytest.fixture(scope="session")
def server():
    with apiserver.running() as running:
        yield running


@pytest.fixture(scope="session")
def kubectl(server):
    return install(server)


@pytest.fixture
def namespace(kubectl):
    name = f"imaging-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    # A controller's work, and there are none here.
    kubectl("create", "serviceaccount", "default", "-n", name)
    return name


@pytest.fixture(scope="session")
def azure_keys(tmp_path_factory):
    """Make the slow keys once."""
    directory = tmp_path_factory.mktemp("azure")

    async def start_once():
        async with AzureSim(SimConfig.for_tests(directory)):
            pass

    asyncio.run(start_once())
    return directory


@pytest.fixture
async def azure(azure_keys, tmp_path):
    state = shutil.copytree(azure_keys, tmp_path / "azure")
    config = replace(
        SimConfig.for_tests(state), relay_namespaces=(NamespaceConfig(RELAY_NAMESPACE, port=0),)
    )
    async with AzureSim(config) as sim:
        yield sim


@pytest.fixture
def class_options():
    """Return what a module wants its class to have besides."""
    return {}


@pytest.fixture
def device_environment():
    """Return what a module wants its device to find in its environment."""
    return {}


@pytest.fixture
def tunnel_class(kubectl, azure, namespace, class_options):
    """Return a class of this test's own, served by this test's own operator."""
    endpoints = azure.endpoints
    body = {
        "apiVersion": "tunnels.dev/v1alpha1",
        "kind": "TunnelClass",
        "metadata": {"name": namespace},
        "spec": {
            "controllerName": f"test.tunnels.dev/{namespace}",
            "relay": {
                "subscriptionId": endpoints.subscription_id,
                "resourceGroup": endpoints.resource_group,
                "namespace": RELAY_NAMESPACE,
                "endpoint": endpoints.relay[0].endpoint,
                "resourceManagerEndpoint": endpoints.arm_base_url,
                "caBundle": base64.b64encode(endpoints.ca_file.read_bytes()).decode(),
            },
            "iotHub": {
                "hostName": endpoints.hubs[0].host_name,
                "connectTimeoutSeconds": 2,
                "responseTimeoutSeconds": 5,
            },
            **class_options,
        },
    }
    kubectl.apply(body)
    yield body
    if kubectl.get("crd", "tunnelclasses.tunnels.dev"):
        kubectl("delete", "tunnelclass", namespace, "--ignore-not-found")


@pytest.fixture
def service_account_kubeconfig(kubectl, server, tmp_path):
    """Return the way in of the operator's service account: its rights and no others."""
    token = kubectl("create", "token", "tunnel-operator", "-n", "tunnels-system").strip()
    path = tmp_path / "operator.kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "operator",
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": server.url, "certificate-authority": str(server.ca)},
                    }
                ],
                "users": [{"name": "operator", "user": {"token": token}}],
                "contexts": [{"name": "operator", "context": {"cluster": "c", "user": "operator"}}],
            }
        )
    )
    return path


@pytest.fixture
async def to_api(server):
    """Return a wire to the API server, for a module that lets its operator's way in lead over it."""
    at = urlsplit(server.url)
    async with Wire(at.hostname, at.port).running() as wire:
        yield wire


@pytest.fixture
def operator_environment(azure, tunnel_class, namespace, service_account_kubeconfig, tmp_path):
    token_file = tmp_path / "federated-token"
    token_file.write_text(azure.assertion().reveal())
    endpoints = azure.endpoints
    return {
        "KUBECONFIG": str(service_account_kubeconfig),
        "FORWARDER_IMAGE": "registry.test/forwarder:1",
        "POD_NAMESPACE": "tunnels-system",
        "WATCH_NAMESPACES": namespace,
        "LEASE_NAME": namespace,
        "CONTROLLER_NAME": tunnel_class["spec"]["controllerName"],
        "HEALTH_PORT": "0",
        "LOG_LEVEL": "DEBUG",
        "AZURE_AUTHORITY_HOST": endpoints.authority_host,
        "AZURE_TENANT_ID": endpoints.tenant_id,
        "AZURE_CLIENT_ID": endpoints.client_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        "REQUESTS_CA_BUNDLE": str(endpoints.ca_file),
        "SSL_CERT_FILE": str(endpoints.ca_file),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


@pytest.fixture
def operator_module():
    """Return what a module runs as its operator."""
    return "tunnel_operator"


@pytest.fixture
async def operator(operator_module, operator_environment, tmp_path):
    """Return the operator, not started yet."""
    log = tmp_path / "operator.log"
    program = Program(operator_module, environment=operator_environment, log=log)
    yield program
    if program.is_running:
        assert await program.stop() == 0
    sys.stdout.write(program.output)


@pytest.fixture
async def second_operator(operator_environment, tmp_path):
    """Return another replica of the same operator, not started yet."""
    log = tmp_path / "second-operator.log"
    program = Program("tunnel_operator", environment=operator_environment, log=log)
    yield program
    if program.is_running:
        await program.stop()
    sys.stdout.write(program.output)


@pytest.fixture
async def device(azure, device_environment, tmp_path):
    """Return the simulated device, not started yet."""
    directory = tmp_path / "device"
    directory.mkdir()
    secret = directory / "connection-string"
    secret.write_text(azure.endpoints.hubs[0].device("mri-7").connection_string.reveal())
    program = Program(
        "tunnel_device_sim",
        *("--connection-string-file", str(secret), "--ca-file", str(azure.endpoints.ca_file)),
        *("--allow", "localhost:8080", "--allow", "localhost:22"),
        *("--web-port", "0", "--echo-port", "0", "--telemetry-interval", "60"),
        environment=device_environment,
        log=directory / "log",
    )
    yield program
    if program.is_running:
        await program.stop()
    sys.stdout.write(program.output)


@dataclass
class Stage:
    """What a test of the operator looks at."""

    kubectl: Kubectl
    azure: AzureSim
    operator: Program
    device: Program
    namespace: str
    class_name: str

    def apply(self, **spec):
        body = tunnel_body(**({"tunnelClassName": self.class_name} | spec))
        body["metadata"] = {"name": body["metadata"]["name"], "namespace": self.namespace}
        self.kubectl.apply(body)

    async def open(self, **spec):
        """Start device and operator, and open one tunnel."""
        await self.device.start()
        await self.operator.start()
        self.apply(**spec)
        await self.until_ready_is("True", "Open")

    async def start_operator_again(self):
        """Start another process. To wait for the dead one's Lease to end is the matter of test_leadership."""
        environment = self.operator.environment
        environment["LEASE_NAME"] = f"{environment['LEASE_NAME']}-again"
        await self.operator.start()

    def tunnel(self):
        return self.kubectl.get("tunnel", "mri-7", "-n", self.namespace)

    def children(self):
        kinds = "pods,secrets,services,ingresses"
        return self.kubectl.items(kinds, "-n", self.namespace, "-l", "tunnels.dev/tunnel=mri-7")

    async def until_ready_is(self, status, reason, within=30.0):
        def check():
            ready = self._ready()
            return ready.get("status") == status and ready.get("reason") == reason

        await eventually(check, within=within, explain=lambda: str(self._ready()))

    async def until_gone(self, within=30.0):
        await eventually(
            lambda: self.tunnel() is None, within=within, explain=lambda: str(self.tunnel())
        )
        await eventually(lambda: not self.children(), explain=lambda: str(self.children()))
        await self.azure.until(lambda: not self.azure.hybrid_connections(), timeout=5)

    def _ready(self):
        conditions = ((self.tunnel() or {}).get("status") or {}).get("conditions") or ()
        return next((c for c in conditions if c["type"] == "Ready"), {})


@pytest.fixture
async def stage(  # noqa: PLR0917 - fixtures arrive as arguments
    kubectl, azure, operator, device, namespace, tunnel_class, server
):
    def is_ready(pod):
        """Whether the forwarder could meet a listener, where it has a rule of its own."""
        [tunnel] = pod.metadata.owner_references
        rule = f"tunnel-send-{tunnel.uid[:8]}"
        found = azure.hybrid_connections().values()
        return any(view.listeners > 0 for view in found if rule in view.rules)

    async with pretend_node(server.kubeconfig, namespace, is_ready):
        yield Stage(kubectl, azure, operator, device, namespace, tunnel_class["metadata"]["name"])
