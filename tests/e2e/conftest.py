"""The development cluster with everything on it: real node, real Pods, real Ingress, devices behind a firewall."""

import contextlib
import json
import os
import signal
import ssl
import time
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.kubectl import Kubectl, condition
from tunnel_dev import client_pod
from tunnel_dev import stage as dev_stage
from tunnel_dev.demo import fetch
from tunnel_dev.process import Service

ROOT = Path(__file__).parents[2]
PORTS = {"e2e-1": (18081, 17001), "e2e-2": (18082, 17002), "e2e-3": (18083, 17003)}
"""Web and echo port of each device: they share the hospital's network."""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(240))


@pytest.fixture(scope="session")
def stage():
    return dev_stage.up(ROOT)


@pytest.fixture(scope="session")
def kubectl(stage):
    return Kubectl(stage.cluster.kubectl, stage.cluster.kubeconfig)


@pytest.fixture(scope="session")
def namespaces(kubectl):
    """Collect the tests' namespaces, and see at the end that all of them have gone.

    To delete one takes the cluster more than five seconds, however little is in it; they go side by side.
    """
    names = []
    yield names
    gone = [f"namespace/{name}" for name in names]
    if gone:
        kubectl("wait", "--for=delete", *gone, "--timeout=90s", within=100)


@pytest.fixture
def namespace(kubectl, namespaces):
    name = f"e2e-{uuid.uuid4().hex[:6]}"
    kubectl("create", "namespace", name)
    namespaces.append(name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@dataclass
class World:
    """What a test does and sees."""

    stage: dev_stage.Stage
    kubectl: Kubectl
    namespace: str
    devices: list[Service]

    def start_device(self, name):
        web, echo = PORTS[name]
        device = self.stage.device(name, web_port=web, echo_port=echo)
        self.stage.start_device(device)
        self.devices.append(device)

    def apply(self, name, **spec):
        web, echo = PORTS[name]
        body = {
            "apiVersion": "tunnels.dev/v1alpha1",
            "kind": "Tunnel",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "device": {"id": name},
                "ports": [
                    {"name": "web", "port": 80, "target": f"localhost:{web}", "protocol": "HTTP"},
                    {"name": "echo", "port": 7, "target": f"localhost:{echo}"},
                ],
                "expose": {"ingress": {"host": self.host(name)}},
                "ttl": "10m",
                **spec,
            },
        }
        self.kubectl.apply(body)

    def host(self, name):
        return f"{name}-{self.namespace}.tunnels.example.com"

    def tunnel(self, name):
        return self.kubectl.get("tunnel", name, "-n", self.namespace)

    def until_ready(self, name, within=60):
        ready = ("--for=condition=Ready", f"tunnel/{name}", "-n", self.namespace)
        self.kubectl("wait", *ready, f"--timeout={within}s")

    def until(self, check, within=60.0):
        deadline = time.monotonic() + within
        while not (result := check()):
            assert time.monotonic() < deadline, f"not so after {within} s"
            time.sleep(0.1)
        return result

    def until_reason(self, name, reason, within=60.0):
        self.until(lambda: condition(self.tunnel(name)).get("reason") == reason, within)

    def children(self, name):
        kinds = "pods,secrets,services,ingresses"
        label = f"tunnels.dev/tunnel={name}"
        found = self.kubectl.items(kinds, "-n", self.namespace, "-l", label)
        return sorted(item["kind"] for item in found)

    def page_through_ingress(self, name):
        return fetch(self.stage.cluster.ingress_address, self.host(name))

    def through_service(self, name, words):
        host = f"{name}.{self.namespace}.svc"
        return client_pod.visit(self.stage, self.namespace, host, ports=(80, 7), words=words)

    def hybrid_connections(self):
        """Return listener counts by name, as ARM tells them, of this namespace's tunnels."""
        arm = self.stage.endpoints["arm"]
        path = (
            f"/subscriptions/{arm['subscriptionId']}/resourceGroups/{arm['resourceGroup']}"
            f"/providers/Microsoft.Relay/namespaces/{dev_stage.RELAY_NAMESPACE}/hybridConnections"
        )
        listed = self._ask(f"{arm['baseUrl']}{path}?api-version=2024-01-01", token=self._token())
        return {
            entry["name"]: entry["properties"]["listenerCount"]
            for entry in listed["value"]
            if entry["name"].startswith(f"{self.namespace}.")
        }

    def method_calls(self, device):
        """Return the direct methods that a device was asked for, oldest first."""
        log = Path(ROOT / ".dev/log/azure.log").read_text().splitlines()
        lines = [json.loads(line) for line in log if '"hub.method"' in line]
        return [line["method"] for line in lines if line["device"] == device]

    def kill_leader(self):
        """End the leading operator's process as by kill -9; the kubelet starts it again."""
        name, restarts = self.leader(), self.restarts(self.leader())
        pod = self.kubectl.get("pod", name, "-n", dev_stage.SYSTEM)
        [status] = pod["status"]["containerStatuses"]
        container = status["containerID"].rpartition("/")[2]
        killed = [pid for pid in _pids_of(container) if _kill(pid)]
        assert killed
        self.until(lambda: self.restarts(name) > restarts)

    def leader(self):
        """Return the name of the Pod that holds the Lease."""
        lease = self.kubectl.get("lease", "tunnel-operator", "-n", dev_stage.SYSTEM)
        return lease["spec"]["holderIdentity"].rpartition("-")[0]

    def restarts(self, name):
        pod = self.kubectl.get("pod", name, "-n", dev_stage.SYSTEM)
        return pod["status"]["containerStatuses"][0]["restartCount"]

    @contextlib.contextmanager
    def without_operator(self):
        """Have no operator while inside."""
        deployment = ("deployment/tunnel-operator", "-n", dev_stage.SYSTEM)
        self.kubectl("scale", *deployment, "--replicas=0")
        gone = ("--for=delete", "pod", "-l", "app.kubernetes.io/name=tunnel-operator")
        self.kubectl("wait", *gone, "-n", dev_stage.SYSTEM, "--timeout=60s")
        try:
            yield
        finally:
            self.kubectl("scale", *deployment, "--replicas=2")
            self.kubectl("rollout", "status", *deployment, "--timeout=60s")

    def _token(self):
        """Sign in to the simulated Azure as the operator does."""
        audience = "--audience=api://AzureADTokenExchange"
        assertion = self.kubectl(
            "create", "token", "tunnel-operator", audience, "-n", dev_stage.SYSTEM
        )
        identity = self.stage.endpoints["identity"]
        form = {
            "grant_type": "client_credentials",
            "client_id": identity["clientId"],
            "scope": "https://management.azure.com/.default",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion.strip(),
        }
        url = f"{identity['authorityHost']}/{identity['tenantId']}/oauth2/v2.0/token"
        return self._ask(url, data=urllib.parse.urlencode(form).encode())["access_token"]

    def _ask(self, url, *, data=None, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        trust = ssl.create_default_context(cafile=self.stage.endpoints["caFile"])
        request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - https
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:  # noqa: S310
            return json.load(answer)


@pytest.fixture
def world(stage, kubectl, namespace):
    world = World(stage, kubectl, namespace, [])
    yield world
    kubectl("delete", "tunnels", "--all", "-n", namespace, "--timeout=60s")
    ours = ("-n", namespace, "-l", "app.kubernetes.io/managed-by=tunnel-operator")
    world.until(lambda: not kubectl.items("pods,secrets,services,ingresses", *ours))
    for device in world.devices:
        device.stop()


def _pids_of(container):
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and container in (folder / "cgroup").read_text():
                yield int(folder.name)


def _kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
