"""The command lines of the cluster's parts: what differs from the defaults, and why."""

from dataclasses import dataclass
from pathlib import Path

from .machine import ADDRESS, SERVICE_CIDR
from .pki import ADMIN, KUBELET_CLIENT, Identity, Pki, api_server_identity

NODE = "dev"
API_PORT = 6443
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
XDS_PORT = 8001
STATS_PORT = 8002
CONTOUR_HEALTH_PORT = 8004
COREDNS_READY_PORT = 8181
GATEWAY_NAMESPACE = "projectcontour"
GATEWAY = "contour"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

IDENTITIES = (
    api_server_identity("127.0.0.1", API_SERVICE_ADDRESS, ADDRESS),
    ADMIN,
    KUBELET_CLIENT,
    Identity(file="kube-controller-manager", user="system:kube-controller-manager"),
    Identity(file="kube-scheduler", user="system:kube-scheduler"),
    Identity(file="kube-proxy", user="system:kube-proxy"),
    # The kubelet serves with it, too: logs and exec come to it by this address.
    Identity(file="kubelet", user=f"system:node:{NODE}", group="system:nodes", hosts=(ADDRESS,)),
    Identity(file="contour", user="contour", group="system:masters"),
    Identity(file="coredns", user="coredns", group="system:masters"),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an API server and its etcd listen."""

    address: str
    port: int
    etcd_port: int = 2379
    etcd_peer_port: int = 2380


def etcd(data: Path, at: Endpoint) -> list[str]:
    """Only loopback reaches it; it may lose its data with the machine, so it does not wait for disks."""
    client = f"http://127.0.0.1:{at.etcd_port}"
    peer = f"http://127.0.0.1:{at.etcd_peer_port}"
    return [
        "etcd",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def kube_apiserver(pki: Pki, at: Endpoint) -> list[str]:
    """The authorizers, the admission plugin and the issuer of a standard cluster."""
    return [
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{at.etcd_port}",
        f"--bind-address={at.address}",
        f"--advertise-address={at.address}",
        f"--secure-port={at.port}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki.ca}",
        f"--tls-cert-file={pki.certificate('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki.service_account_key}",
        f"--service-account-signing-key-file={pki.service_account_key}",
    ]


def kubelet_access(pki: Pki) -> list[str]:
    """What the API server adds for exec and logs: no name service knows the node, so by address."""
    return [
        f"--kubelet-certificate-authority={pki.ca}",
        f"--kubelet-client-certificate={pki.certificate(KUBELET_CLIENT.file)}",
        f"--kubelet-client-key={pki.key(KUBELET_CLIENT.file)}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def kube_controller_manager(pki: Pki, kubeconfig: Path) -> list[str]:
    """One replica needs no election.

    Each controller has a service account of its own, with its own rights. Making them all at once
    takes more requests than the default rate allows; it would be five seconds' worth of waiting.
    """
    return [
        "kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        f"--root-ca-file={pki.ca}",
        f"--service-account-private-key-file={pki.service_account_key}",
        f"--cluster-signing-cert-file={pki.ca}",
        f"--cluster-signing-key-file={pki.ca_key}",
    ]


def some_controllers(kubeconfig: Path, names: tuple[str, ...]) -> list[str]:
    """Only the named ones, as whoever the kubeconfig says, and no port of its own."""
    return [
        "kube-controller-manager",
        f"--kubeconfig={kubeconfig}",
        f"--controllers={','.join(names)}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def kube_scheduler(kubeconfig: Path) -> list[str]:
    """One replica needs no election."""
    return ["kube-scheduler", f"--kubeconfig={kubeconfig}", "--leader-elect=false"]


def kubelet(config: Path, kubeconfig: Path) -> list[str]:
    """The node's address is given, since its name can't be resolved."""
    return [
        "kubelet",
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={NODE}",
        f"--node-ip={ADDRESS}",
    ]


def contour(config: Path, kubeconfig: Path) -> list[str]:
    """Metrics and health are on ports of their own: Contour refuses one port for both here.

    On which ports Envoy listens, the Gateway says.
    """
    return [
        "contour",
        "serve",
        f"--config-path={config}",
        f"--kubeconfig={kubeconfig}",
        "--disable-leader-election",
        # Of the Gateway API only what the toolchain has the definitions of.
        "--disable-feature=grpcroutes",
        "--disable-feature=backendtlspolicies",
        # Envoy is a neighbour on loopback, which no Pod reaches.
        "--insecure",
        "--xds-address=127.0.0.1",
        f"--xds-port={XDS_PORT}",
        f"--envoy-service-http-address={ADDRESS}",
        f"--envoy-service-https-address={ADDRESS}",
        f"--ingress-status-address={ADDRESS}",
        "--http-address=127.0.0.1",
        "--http-port=8003",
        f"--health-address={ADDRESS}",
        f"--health-port={CONTOUR_HEALTH_PORT}",
        "--debug-http-address=127.0.0.1",
        f"--stats-address={ADDRESS}",
        f"--stats-port={STATS_PORT}",
    ]


def envoy(bootstrap: Path) -> list[str]:
    """Without hot restarts, which would share memory with any other Envoy of this machine."""
    options = {
        "--config-path": str(bootstrap),
        "--service-cluster": "contour",
        "--service-node": "envoy",
        "--concurrency": "2",
        "--log-level": "warning",
    }
    # Its option parser takes no `--name=value`.
    return ["envoy", "--disable-hot-restart", *(word for pair in options.items() for word in pair)]
