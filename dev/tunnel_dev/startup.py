"""Start the parts of the built cluster in the order they need each other, and no later."""

import http.client
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import yaml

from . import components, config, images, kubeconfig, machine, pause_image, pki, toolchain
from .api import Api
from .command import attempt, run
from .components import (
    API_PORT,
    CONTOUR_HEALTH_PORT,
    COREDNS_READY_PORT,
    NODE,
    STATS_PORT,
    Endpoint,
)
from .machine import ADDRESS
from .paths import cluster_dir, write_atomically
from .paths import kubeconfig as kubeconfig_path
from .process import Service
from .waiting import wait_until

COMPONENTS = (
    "etcd",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "contour",
    "envoy",
)
MANIFESTS = Path(__file__).with_name("manifests.yaml")
GATEWAY_API = "/apis/gateway.networking.k8s.io/v1"
GATEWAY_PATHS = {
    "GatewayClass": f"{GATEWAY_API}/gatewayclasses/{components.GATEWAY}",
    "Gateway": (
        f"{GATEWAY_API}/namespaces/{components.GATEWAY_NAMESPACE}/gateways/{components.GATEWAY}"
    ),
}
ENVOY_PATH = f"/api/v1/namespaces/{components.GATEWAY_NAMESPACE}/services/envoy/status"
PROXY_HEALTH_PORT = 10256
GATEWAY = Path(__file__).with_name("gateway.yaml")
CONTOUR_TYPES = {
    "projectcontour.io/v1": {"httpproxies", "tlscertificatedelegations"},
    "projectcontour.io/v1alpha1": {
        "contourconfigurations",
        "contourdeployments",
        "extensionservices",
    },
    "gateway.networking.k8s.io/v1": {"gatewayclasses", "gateways", "httproutes"},
    "gateway.networking.k8s.io/v1beta1": {"referencegrants"},
    "gateway.networking.k8s.io/v1alpha2": {"tlsroutes", "tcproutes"},
}
SERVER = f"https://{ADDRESS}:{API_PORT}"
AT = Endpoint(address=ADDRESS, port=API_PORT)
# A busy machine of two cores takes several times what an idle one does.
PATIENCE_S = 60


class Startup:
    """One start of the parts of one checkout's cluster; the machine they run on is on."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._folder = cluster_dir(tree)
        self._tools = toolchain.tools_dir()
        self._pki = pki.Pki(self._folder / "pki")

    def is_complete(self) -> bool:
        """Whether all parts run."""
        return all(self._service(name, ()).is_running() for name in COMPONENTS)

    def run(self) -> None:
        """Return when a Pod can run and an Ingress is served."""
        self._folder.mkdir(parents=True, exist_ok=True)
        pki.ensure(self._pki.folder, components.IDENTITIES)
        api = Api(ADDRESS, API_PORT, self._pki)
        self._write_configuration()
        self._start("etcd", components.etcd(self._folder / "etcd", AT))
        self._start("containerd", ["containerd", "--config", self._folder / "containerd.toml"])
        server = self._start(
            "kube-apiserver",
            [*components.kube_apiserver(self._pki, AT), *components.kubelet_access(self._pki)],
        )
        # Anyone started sooner would find the API without its RBAC rules, and some end over that.
        server.wait_until_ready(api.is_ready, seconds=PATIENCE_S)
        self._start_controllers()
        proxy, node = self._start_node()
        self._load_pause_image()
        self._start_dns()
        self._start_ingress(api)
        proxy.wait_until_ready(partial(answers, PROXY_HEALTH_PORT, "/healthz"), seconds=PATIENCE_S)
        node.wait_until_ready(partial(is_node_ready, api), seconds=PATIENCE_S)
        wait_until(
            lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None,
            seconds=PATIENCE_S,
            what="the controller manager made no service account",
        )

    def _write_configuration(self) -> None:
        folder, certificates = self._folder, self._pki
        identities = ("kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
        for identity in (*identities, "contour", "coredns"):
            path = folder / f"{identity}.kubeconfig"
            kubeconfig.write(path, server=SERVER, pki=certificates, identity=identity)
        admin = kubeconfig_path(self._tree)
        kubeconfig.write(admin, server=SERVER, pki=certificates, identity=pki.ADMIN.file)
        pause = pause_image.reference()
        files = {
            "containerd.toml": config.containerd(folder / machine.IMAGES, folder / "cni", pause),
            "cni/edge-tunnels.conflist": config.cni(),
            "kubelet.json": config.kubelet(certificates),
            "kube-proxy.json": config.kube_proxy(folder / "kube-proxy.kubeconfig"),
            "Corefile": config.corefile(folder / "coredns.kubeconfig"),
            "contour.json": config.contour(),
        }
        for name, content in files.items():
            write_atomically(folder / name, content)

    def _start_controllers(self) -> None:
        folder = self._folder
        manager = folder / "kube-controller-manager.kubeconfig"
        argv = components.kube_controller_manager(self._pki, manager)
        self._start("kube-controller-manager", argv)
        scheduler = components.kube_scheduler(folder / "kube-scheduler.kubeconfig")
        self._start("kube-scheduler", scheduler)

    def _start_node(self) -> tuple[Service, Service]:
        folder = self._folder
        kubelet = components.kubelet(folder / "kubelet.json", folder / "kubelet.kubeconfig")
        return (
            self._start("kube-proxy", ["kube-proxy", f"--config={folder / 'kube-proxy.json'}"]),
            self._start("kubelet", kubelet),
        )

    def _load_pause_image(self) -> None:
        socket = ("test", "-S", components.CONTAINERD_SOCKET)
        containerd = self._service("containerd", ())
        containerd.wait_until_ready(lambda: self._inside(*socket), seconds=PATIENCE_S)
        if not images.is_loaded(self._tree, pause_image.reference()):
            images.load_archive(self._tree, pause_image.ensure())

    def _start_dns(self) -> None:
        dns = self._start("coredns", ["coredns", "-conf", self._folder / "Corefile"])
        dns.wait_until_ready(partial(answers, COREDNS_READY_PORT, "/ready"), seconds=PATIENCE_S)

    def _start_ingress(self, api: Api) -> None:
        """Start Contour when its resource types are served, and no sooner: it would end."""
        definitions = (self._tools / toolchain.CONTOUR_CRDS, self._tools / toolchain.GATEWAY_CRDS)
        self._kubectl(*definitions, MANIFESTS)
        what = "the API server does not serve Contour's resource types"
        wait_until(partial(are_contour_types_served, api), seconds=PATIENCE_S, what=what)
        bootstrap = self._folder / "envoy.json"
        xds = ("--xds-address=127.0.0.1", f"--xds-port={components.XDS_PORT}")
        admin = f"--admin-address={self._folder / 'envoy-admin.sock'}"
        run(self._tools / "contour", "bootstrap", bootstrap, *xds, admin)
        settings = (self._folder / "contour.json", self._folder / "contour.kubeconfig")
        contour = self._start("contour", components.contour(*settings))
        envoy = self._start("envoy", components.envoy(bootstrap))
        for body in yaml.safe_load_all(GATEWAY.read_text()):
            api.apply(GATEWAY_PATHS[body["kind"]], body)
        api.apply(ENVOY_PATH, config.envoy_address())
        is_healthy = partial(answers, CONTOUR_HEALTH_PORT, "/healthz")
        contour.wait_until_ready(is_healthy, seconds=PATIENCE_S)
        envoy.wait_until_ready(partial(answers, STATS_PORT, "/ready"), seconds=PATIENCE_S)

    def _start(self, name: str, argv: Sequence[str | Path]) -> Service:
        service = self._service(name, argv)
        service.start()
        return service

    def _service(self, name: str, argv: Sequence[str | Path]) -> Service:
        """Describe a part; a program of ours is named by its path, Debian's are on PATH."""
        command: tuple[str | Path, ...] = ()
        if argv:
            built = self._tools / argv[0]
            program = built if built.exists() else argv[0]
            command = (*machine.enter(self._tree), program, *argv[1:])
        return Service(tree=self._tree, name=name, argv=command)

    def _inside(self, *argv: str) -> bool:
        return attempt(*machine.enter(self._tree), *argv).returncode == 0

    def _kubectl(self, *files: Path) -> None:
        """Apply files; kubectl's cache is kept out of the user's home."""
        named = (word for file in files for word in ("--filename", file))
        run(
            *(self._tools / "kubectl", "--kubeconfig", kubeconfig_path(self._tree)),
            *("apply", "--server-side", *named),
            env={"KUBECACHEDIR": str(self._folder / "kubectl")},
        )


def is_node_ready(api: Api) -> bool:
    """Whether the kubelet says so."""
    node = api.get(f"/api/v1/nodes/{NODE}")
    conditions = node["status"].get("conditions", []) if node else []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def are_contour_types_served(api: Api) -> bool:
    """Whether all are found by discovery, which comes a moment after they are accepted."""
    for version, expected in CONTOUR_TYPES.items():
        found = api.get(f"/apis/{version}") or {"resources": []}
        if not expected <= {resource["name"] for resource in found["resources"]}:
            return False
    return True


def answers(port: int, path: str) -> bool:
    """Whether the part whose health is served at a port of the machine is well."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
