"""The real API server, the simulated Azure, its devices and a node: what the operator meets."""

import asyncio
import base64
import contextlib
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bridge.processes import free_port
from simulation import cpu_seconds, running, until_exists
from support.kubectl import Kubectl, install
from support.processes import Program
from tunnel_azure_sim.identity.assertion import make_assertion
from tunnel_dev import apiserver
from tunnel_dev.apiserver import ApiServer

from .devices import Devices
from .kube import Kube
from .node import Node

DEVICES = 20
NAMESPACES = 10
PLANES = ("arm", "hub", "identity")
AZURE = "simulated Azure"
BENCH = "node, devices and bench"
"""This process, which plays them; it is the bare client, too."""

_SIM_PORTS = ("--identity-port", "--arm-port", "--relay-port", "--hub-port")


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario works with."""

    server: ApiServer
    kubectl: Kubectl
    kube: Kube
    endpoints: dict[str, Any]
    devices: Devices
    folder: Path
    azure_pid: int

    def processor_seconds(self) -> dict[str, float]:
        """Return what each of the processes that the operator meets has used so far."""
        found = {AZURE: cpu_seconds(self.azure_pid), BENCH: cpu_seconds(os.getpid())}
        for name, service in (("API server", self.server.process), ("etcd", self.server.etcd)):
            leader = service.leader()
            found[name] = cpu_seconds(leader.pid) if leader else 0.0
        return found

    def operator(self, **settings: str) -> tuple[Program, int]:
        """Return the operator with its own rights and no others, not started, and its health port."""
        token = self.folder / "federated-token"
        subject = "system:serviceaccount:tunnels-system:tunnel-operator"
        token.write_text(make_assertion(subject=subject, expires_at=int(time.time()) + 7200))
        port = free_port()
        identity = self.endpoints["identity"]
        environment = {
            "KUBECONFIG": str(_kubeconfig(self)),
            "FORWARDER_IMAGE": "registry.test/forwarder:1",
            "POD_NAMESPACE": "tunnels-system",
            "HEALTH_PORT": str(port),
            "LOG_LEVEL": "INFO",
            # As in the image.
            "MALLOC_ARENA_MAX": "2",
            "AZURE_AUTHORITY_HOST": identity["authorityHost"],
            "AZURE_TENANT_ID": identity["tenantId"],
            "AZURE_CLIENT_ID": identity["clientId"],
            "AZURE_FEDERATED_TOKEN_FILE": str(token),
            "REQUESTS_CA_BUNDLE": self.endpoints["caFile"],
            "SSL_CERT_FILE": self.endpoints["caFile"],
        } | settings
        log = self.folder / "operator.log"
        return Program("tunnel_operator", environment=environment, log=log), port

    def token(self) -> str:
        """Return a token with the operator's rights."""
        names = ("tunnel-operator", "-n", "tunnels-system")
        return self.kubectl("create", "token", *names, "--duration=2h").strip()

    async def azure(self, method: str, path: str, **body: object) -> Any:
        """Ask the simulated Azure's own API."""
        url = self.endpoints["adminUrl"].rstrip("/") + path
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body or None) as answer,
        ):
            answer.raise_for_status()
            return await answer.json()

    async def slow_azure(self, seconds: float) -> None:
        """Let each call to Azure take so much longer."""
        await self.azure("DELETE", "/faults")
        for plane in PLANES if seconds else ():
            await self.azure("POST", "/faults", kind="latency", plane=plane, seconds=seconds)

    async def azure_calls(self) -> dict[str, int]:
        """Return what was asked of ARM and of the devices so far."""
        methods = await self.azure("GET", "/method-calls")
        return {
            "arm": sum((await self.azure("GET", "/arm-counts")).values()),
            "methods": len(methods),
        }


def can_be_apart() -> bool:
    """Tell whether the control plane can have cores of its own: there are two, and the system lets us choose."""
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


@contextlib.asynccontextmanager
async def standing(folder: Path, *, is_apart: bool = False) -> AsyncIterator[Stage]:
    """Start it all, empty, and leave nothing behind.

    `is_apart`: API server and etcd have half of the cores for themselves, everything else the other half.
    """
    devices = Devices()
    async with contextlib.AsyncExitStack() as stack:
        own, others = _halves() if is_apart else (None, None)
        stack.enter_context(_on(others))
        azure_pid, endpoints = await _simulate(folder, stack)
        with _on(own):
            server = stack.enter_context(apiserver.running())
        kube = await stack.enter_async_context(Kube.connected(server))
        await stack.enter_async_context(devices.connected(endpoints))
        kubectl = await asyncio.to_thread(install, server)
        stage = Stage(server, kubectl, kube, endpoints, devices, folder, azure_pid)
        await _prepare(stage)
        async with asyncio.TaskGroup() as group:
            node = group.create_task(Node(kube, devices.until_open).run())
            yield stage
            node.cancel()


def _halves() -> tuple[list[int], list[int]]:
    cores = sorted(os.sched_getaffinity(0))
    middle = len(cores) // 2
    return cores[:middle], cores[middle:]


@contextlib.contextmanager
def _on(cores: Collection[int] | None) -> Iterator[None]:
    """Keep this process, and what it starts meanwhile, to these cores if any are given."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


async def _simulate(folder: Path, stack: contextlib.AsyncExitStack) -> tuple[int, dict[str, Any]]:
    # azure-iot-device dials one port only, so each simulation has an address of its own.
    address = "127." + ".".join(str(secrets.randbelow(250) + 2) for _ in range(3))
    words = [word for option in _SIM_PORTS for word in (option, "0")]
    for number in range(DEVICES):
        words += ["--device", f"device-{number}"]
    state = folder / "azure"
    process = await stack.enter_async_context(
        running(
            *("-m", "tunnel_azure_sim", "--address", address, "--state-dir", str(state)),
            *("--admin-port", "0", "--relay-namespace", "clinic-relay", *words),
            directory=folder,
            name="azure",
        )
    )
    file = state / "endpoints.json"
    await until_exists(file, process)
    endpoints: dict[str, Any] = json.loads(file.read_text())
    return process.pid, endpoints


async def _prepare(stage: Stage) -> None:
    for number in range(NAMESPACES):
        name = f"clinic-{number}"
        for path, body in (
            ("/api/v1/namespaces", {"metadata": {"name": name}}),
            # A controller's work, and there are none here.
            (f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}}),
        ):
            await stage.kube("POST", path, body)
    await stage.kube("POST", "/apis/tunnels.dev/v1alpha1/tunnelclasses", tunnel_class(stage))


def tunnel_class(stage: Stage) -> dict[str, Any]:
    """Return the class of all Tunnels here."""
    arm, relay = stage.endpoints["arm"], stage.endpoints["relay"][0]
    authorities = Path(stage.endpoints["caFile"]).read_bytes()
    return {
        "apiVersion": "tunnels.dev/v1alpha1",
        "kind": "TunnelClass",
        "metadata": {"name": "azure"},
        "spec": {
            "relay": {
                "subscriptionId": arm["subscriptionId"],
                "resourceGroup": arm["resourceGroup"],
                "namespace": relay["namespace"],
                "endpoint": relay["endpoint"],
                "resourceManagerEndpoint": arm["baseUrl"],
                "caBundle": base64.b64encode(authorities).decode(),
            },
            "iotHub": {"hostName": stage.endpoints["hubs"][0]["hostName"]},
        },
    }


def _kubeconfig(stage: Stage) -> Path:
    path = stage.folder / "operator.kubeconfig"
    cluster = {"server": stage.server.url, "certificate-authority": str(stage.server.ca)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "operator",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "operator", "user": {"token": stage.token()}}],
        "contexts": [{"name": "operator", "context": {"cluster": "c", "user": "operator"}}],
    }
    path.write_text(json.dumps(content))
    return path
