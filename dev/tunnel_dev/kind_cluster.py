"""A cluster by kind, for those who have a Docker engine.

Written from kind's and Contour's documents and not run on the machine that the built cluster was
developed on, which has no engine.
"""

import json
import shutil
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from . import toolchain
from .command import attempt, run
from .console import step
from .description import Cluster
from .errors import DevError
from .paths import kubeconfig, state_dir, write_atomically

NAME = "edge-tunnels"
NODE = f"{NAME}-control-plane"
INGRESS_PORT = 8080
CONFIGURATION = {
    "kind": "Cluster",
    "apiVersion": "kind.x-k8s.io/v1alpha4",
    "nodes": [
        {
            "role": "control-plane",
            "extraPortMappings": [
                {"containerPort": 80, "hostPort": INGRESS_PORT, "listenAddress": "127.0.0.1"}
            ],
        }
    ],
}
GATEWAY = Path(__file__).with_name("gateway.yaml")
INGRESS_CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "contour"},
    "spec": {"controller": "projectcontour.io/contour"},
}
ARGUMENTS = "/spec/template/spec/containers/0/args/-"
STATUS_ADDRESS = "--ingress-status-address=127.0.0.1"


def has_engine() -> bool:
    """Whether a Docker engine answers; the client alone is no engine."""
    return shutil.which("docker") is not None and attempt("docker", "info").returncode == 0


def up(tree: Path) -> Cluster:
    """Create the cluster unless it is there, and wait for its ingress controller."""
    kind = _kind()
    if NAME not in run(kind, "get", "clusters").splitlines():
        # Written first: a `down` after an interrupted creation knows that there is something to remove.
        write_atomically(_mark(tree), "")
        with step("Creating a kind cluster", estimate="1 min"):
            arguments = ("--name", NAME, "--config", "-", "--kubeconfig", kubeconfig(tree))
            run(kind, "create", "cluster", *arguments, stdin=json.dumps(CONFIGURATION))
    elif not _mark(tree).exists():
        raise DevError(
            f"Another checkout's kind cluster runs: `kind delete cluster --name {NAME}`."
        )
    kubectl = _kubectl()
    with step("Installing Contour", estimate="1 min"):
        _install_contour(kubectl, kubeconfig(tree))
    return Cluster(
        kind="kind",
        tree=tree,
        kubeconfig=kubeconfig(tree),
        kubectl=kubectl,
        host_address=_gateway(),
        ingress_address=f"127.0.0.1:{INGRESS_PORT}",
    )


def down(tree: Path) -> None:
    """Delete the cluster if this checkout created it."""
    if _mark(tree).exists():
        run(_kind(), "delete", "cluster", "--name", NAME, "--kubeconfig", kubeconfig(tree))
        kubeconfig(tree).unlink(missing_ok=True)
        _mark(tree).unlink()


def is_running() -> bool:
    """Whether kind knows the cluster."""
    return NAME in run(_kind(), "get", "clusters").splitlines()


def build_and_load(reference: str, context: Path, dockerfile: Path) -> None:
    """Build with the engine, whose own cache makes a repetition quick, unless the node has it."""
    node = ("docker", "exec", NODE, "ctr", "--namespace=k8s.io")
    if reference in run(*node, "images", "list", "--quiet").splitlines():
        return
    with step(f"Building the image {reference}"):
        run("docker", "build", "--tag", reference, "--file", context / dockerfile, context)
    with step(f"Loading the image {reference}"):
        run(_kind(), "load", "docker-image", reference, "--name", NAME)


def _install_contour(kubectl: Path, config: Path) -> None:
    """Apply the examples of Contour's module, whose Envoy takes port 80 of the node, and the Gateway."""
    examples = toolchain.contour_source() / "examples"
    with_config = (kubectl, "--kubeconfig", config)
    forced = ("--server-side", "--force-conflicts")
    definitions = examples / "gateway" / "00-crds.yaml"
    run(*with_config, "apply", *forced, "--filename", definitions)
    run(*with_config, "apply", *forced, "--filename", examples / "contour")
    established = ("--for=condition=Established", "--filename", definitions, "--timeout=1m")
    run(*with_config, "wait", *established)
    # The configuration that names the Gateway, in the place of the one that does not.
    named = examples / "gateway" / "03-contour-config.yaml"
    run(*with_config, "apply", *forced, "--filename", named, "--filename", GATEWAY)
    # No load balancer gives Envoy's Service an address, so Contour is told what to say on Ingresses.
    patch = json.dumps([{"op": "add", "path": ARGUMENTS, "value": STATUS_ADDRESS}])
    deployment = ("deployment/contour", "--namespace", "projectcontour")
    run(*with_config, "patch", *deployment, "--type=json", "--patch", patch)
    apply = ("apply", "--server-side", "--filename", "-")
    run(*with_config, *apply, stdin=json.dumps(INGRESS_CLASS))
    namespace = ("--namespace", "projectcontour", "--timeout=5m")
    for workload in ("deployment/contour", "daemonset/envoy"):
        run(*with_config, "rollout", "status", workload, *namespace)


def _gateway() -> str:
    """The engine's address on the cluster's network, which is this machine as Pods see it."""
    inspected = json.loads(run("docker", "network", "inspect", "kind"))
    for entry in inspected[0]["IPAM"]["Config"]:
        if isinstance(ip_network(entry["Subnet"]), IPv4Network) and "Gateway" in entry:
            return str(entry["Gateway"])
    raise DevError("The docker network 'kind' has no IPv4 gateway.")


def _kind() -> Path:
    found = shutil.which("kind")
    return Path(found) if found else toolchain.ensure(["kind"]) / "kind"


def _kubectl() -> Path:
    found = shutil.which("kubectl")
    return Path(found) if found else toolchain.ensure(["kubectl"]) / "kubectl"


def _mark(tree: Path) -> Path:
    return state_dir(tree) / "kind"
