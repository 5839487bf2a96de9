"""Everything around one tunnel, as the demo and the end-to-end tests need it.

The simulated Azure runs on this machine, the operator in a Pod under its own RBAC, and devices in the
hospital, from where they can only dial out. Where there is no hospital (kind), they run on this machine.
"""

import base64
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import base_image, buildah, cluster, components, hospital, images
from .cluster import Cluster
from .command import run
from .console import step
from .images import ImageSpec, content_hash
from .operator_overlay import write_overlay
from .paths import state_dir, write_atomically
from .process import Service

RELAY_NAMESPACE = "demo-relay"
HUB = "demo-hub"
DEVICES = ("mri-7", "xray-3", "e2e-1", "e2e-2", "e2e-3")
"""The devices that the simulated IoT Hub knows; those of the tests besides the demo's."""

CLASS_NAME = "azure"
SYSTEM = "tunnels-system"

OPERATOR = ImageSpec(
    name="edge-tunnels-operator",
    context=Path(),
    dockerfile=Path("Dockerfile"),
    inputs=(
        Path("requirements/operator.txt"),
        Path("operator/tunnel_operator"),
        Path("forwarder-image/tunnel_forwarder"),
    ),
)
FORWARDER = ImageSpec(
    name="edge-tunnels-forwarder",
    context=Path(),
    dockerfile=Path("forwarder-image/Dockerfile"),
    inputs=(Path("requirements/forwarder.txt"), Path("forwarder-image/tunnel_forwarder")),
)
AZURE_SOURCES = (Path("azure_sim/tunnel_azure_sim"), Path("forwarder-image/tunnel_forwarder"))
AZURE = ImageSpec(
    name="edge-tunnels-azure-sim",
    context=Path(),
    dockerfile=Path("azure_sim/Dockerfile"),
    inputs=(Path("requirements/azure-sim.txt"), *AZURE_SOURCES),
)
"""For others than the stage, where the simulation runs on the machine itself."""

DEVICE_SOURCES = (Path("device_sim/tunnel_device_sim"), Path("forwarder-image/tunnel_forwarder"))


@dataclass(frozen=True)
class Stage:
    """A running stage."""

    tree: Path
    cluster: Cluster
    endpoints: Mapping[str, Any]
    operator_image: str
    forwarder_image: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what kubectl printed. Raises DevError with what it said."""
        config = ("--kubeconfig", str(self.cluster.kubeconfig))
        return run(self.cluster.kubectl, *config, *arguments, stdin=stdin)

    def apply(self, body: Mapping[str, Any]) -> None:
        """Apply one object."""
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def device(self, name: str, *, web_port: int = 8080, echo_port: int = 7007) -> Service:
        """Describe a device; `start_device` starts it."""
        folder = _folder(self.tree) / name
        argv = (
            *(sys.executable, "-m", "tunnel_device_sim"),
            *("--connection-string-file", folder / "connection-string"),
            *("--ca-file", self.endpoints["caFile"], "--ready-file", folder / "ready"),
            *("--allow", f"localhost:{web_port}", "--allow", f"localhost:{echo_port}"),
            *("--web-port", str(web_port), "--echo-port", str(echo_port)),
        )
        if self.cluster.kind == "built":
            return hospital.service(self.tree, name, argv)
        return Service(tree=self.tree, name=name, argv=argv)

    def start_device(self, service: Service) -> None:
        """Start a device and wait until it is connected to the IoT Hub."""
        folder = _folder(self.tree) / service.name
        known = {d["id"]: d["connectionString"] for d in self.endpoints["hubs"][0]["devices"]}
        secret = known[service.name]
        write_atomically(folder / "connection-string", secret, mode=0o600)
        _start(service, folder / "ready", _code(self.tree, DEVICE_SOURCES) + secret)

    @cached_property
    def class_body(self) -> dict[str, Any]:
        """The default TunnelClass, for the simulated Azure."""
        relay, hub = self.endpoints["relay"][0], self.endpoints["hubs"][0]
        authority = Path(self.endpoints["caFile"]).read_bytes()
        return {
            "apiVersion": "tunnels.dev/v1alpha1",
            "kind": "TunnelClass",
            "metadata": {
                "name": CLASS_NAME,
                "annotations": {"tunnelclass.tunnels.dev/is-default-class": "true"},
            },
            "spec": {
                "relay": {
                    "subscriptionId": self.endpoints["arm"]["subscriptionId"],
                    "resourceGroup": self.endpoints["arm"]["resourceGroup"],
                    "namespace": relay["namespace"],
                    "endpoint": relay["endpoint"],
                    "resourceManagerEndpoint": self.endpoints["arm"]["baseUrl"],
                    "caBundle": base64.b64encode(authority).decode(),
                },
                "iotHub": {"hostName": hub["hostName"], "connectTimeoutSeconds": 5},
                "exposure": self._exposure,
            },
        }

    @property
    def _exposure(self) -> dict[str, Any]:
        exposure: dict[str, Any] = {
            "ingressClassName": "contour",
            "domain": "tunnels.example.com",
            "allowedServiceTypes": ["NodePort", "LoadBalancer"],
            "allowedServiceAnnotations": ["a.test/*"],
        }
        if self.cluster.kind == "existing":
            # What Gateways somebody's own cluster has is not known.
            return exposure
        gateway = {"name": components.GATEWAY, "namespace": components.GATEWAY_NAMESPACE}
        return exposure | {"gateway": gateway}


def up(tree: Path) -> Stage:
    """Bring everything up but a device and a Tunnel; what runs already with today's code stays."""
    tree = tree.resolve()
    running = cluster.up(tree, flavour=os.environ.get("CLUSTER") or "auto")
    operator_image = images.build_and_load(running, _in_tree(tree, OPERATOR))
    forwarder_image = images.build_and_load(running, _in_tree(tree, FORWARDER))
    endpoints = _azure(tree, running)
    stage = Stage(tree, running, endpoints, operator_image, forwarder_image)
    _install_operator(stage)
    stage.apply(stage.class_body)
    if running.kind == "built":
        hospital.up(tree)
    return stage


def build_images(tree: Path) -> dict[str, str]:
    """Build all images, without a cluster; return how large each is, and what all are built on."""
    sizes = {
        spec.name: buildah.size(images.build(_in_tree(tree.resolve(), spec)))
        for spec in (OPERATOR, FORWARDER, AZURE)
    }
    return {base_image.REFERENCE: buildah.size(base_image.REFERENCE), **sizes}


def _azure(tree: Path, running: Cluster) -> Mapping[str, Any]:
    folder = _folder(tree) / "azure"
    keys = folder / "jwks.json"
    config = ("--kubeconfig", running.kubeconfig)
    write_atomically(keys, run(running.kubectl, *config, "get", "--raw", "/openid/v1/jwks"))
    service = Service(
        tree=tree,
        name="azure",
        argv=(
            *(sys.executable, "-m", "tunnel_azure_sim"),
            *("--address", running.host_address, "--state-dir", folder),
            *("--relay-namespace", RELAY_NAMESPACE, "--hub", HUB),
            *(part for device in DEVICES for part in ("--device", device)),
            *("--assertion-jwks", keys),
        ),
    )
    ready = folder / "endpoints.json"
    _start(service, ready, _code(tree, AZURE_SOURCES) + keys.read_text())
    endpoints: dict[str, Any] = json.loads(ready.read_text())
    return endpoints


def _install_operator(stage: Stage) -> None:
    with step("Installing the operator", estimate="5 s"):
        overlay = write_overlay(
            _folder(stage.tree) / "operator",
            base=stage.tree / "manifests" / "base",
            endpoints=stage.endpoints,
            operator_image=stage.operator_image,
            forwarder_image=stage.forwarder_image,
        )
        stage.kubectl("apply", "-k", str(overlay))
        for name in ("tunnels", "tunnelclasses"):
            stage.kubectl("wait", "--for=condition=Established", f"crd/{name}.tunnels.dev")
        deployment = ("deployment/tunnel-operator", "--namespace", SYSTEM)
        stage.kubectl("rollout", "status", *deployment, "--timeout=90s")


def _start(service: Service, ready: Path, fingerprint: str) -> None:
    """Start a service, anew when what it was started with differs, and wait for its ready file."""
    note = ready.with_name(f"{service.name}.fingerprint")
    text = fingerprint + " ".join(map(str, service.argv))
    mark = hashlib.sha256(text.encode()).hexdigest()
    if service.is_running() and note.exists() and note.read_text() == mark:
        service.wait_until_ready(ready.exists, seconds=30)
        return
    service.stop()
    ready.unlink(missing_ok=True)
    write_atomically(note, mark)
    service.start()
    service.wait_until_ready(ready.exists, seconds=30)


def _code(tree: Path, sources: tuple[Path, ...]) -> str:
    spec = ImageSpec(name="", context=tree, dockerfile=sources[0], inputs=sources)
    return content_hash(spec, base=sys.version)


def _in_tree(tree: Path, spec: ImageSpec) -> ImageSpec:
    return ImageSpec(spec.name, tree, spec.dockerfile, spec.inputs)


def _folder(tree: Path) -> Path:
    return state_dir(tree) / "stage"
