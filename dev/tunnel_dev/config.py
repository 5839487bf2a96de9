"""The configuration files of the cluster's parts, as pure functions of where things are.

What makes them differ from a common cluster's is that they must run where the kernel and the
privileges are a container's: cgroups of version 1, no CAP_SYS_RESOURCE, no sysctls for conntrack, no
`dummy` links, swap that may be on and a disk that may be nearly full.
"""

import json
from pathlib import Path
from typing import Any

from .cgroups import NAME as CGROUP
from .components import (
    CONTAINERD_SOCKET,
    COREDNS_READY_PORT,
    DNS_ADDRESS,
    GATEWAY,
    GATEWAY_NAMESPACE,
    NODE,
)
from .machine import ADDRESS, POD_CIDR
from .pki import Pki


def containerd(root: Path, cni: Path, pause_image: str) -> str:
    """Lowering an oom_score_adj takes CAP_SYS_RESOURCE; where it is missing, runc would fail."""
    return f"""\
version = 2
root = {json.dumps(str(root))}
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = {json.dumps(str(root / "opt"))}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {json.dumps(pause_image)}
  restrict_oom_score_adj = true
  # As in containerd 2 and Docker: a Pod that is not root may listen on port 80.
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = {json.dumps(str(cni))}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def cni() -> str:
    """A cable to each Pod, as kind lays them, and no bridge between them.

    So all that Pods send is routed, and Services work without the kernel's filter for bridges, which
    is a module and, once loaded, is for the whole machine.
    """
    cable = {
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_CIDR}]],
            # Without it, Pods have no way to Services.
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps(
        {"cniVersion": "1.0.0", "name": "edge-tunnels", "plugins": [cable, portmap]}, indent=2
    )


def kubelet(pki: Pki) -> str:
    """The node's configuration."""
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki.ca)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki.certificate("kubelet")),
            "tlsPrivateKeyFile": str(pki.key("kubelet")),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}",
            "failCgroupV1": False,
            "failSwapOn": False,
            "clusterDomain": "cluster.local",
            "clusterDNS": [DNS_ADDRESS],
            # The machine's own would point Pods to servers that they can't reach.
            "resolvConf": "",
            "serializeImagePulls": False,
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
        },
        indent=2,
    )


def kube_proxy(kubeconfig: Path) -> str:
    """Leave the conntrack sysctls alone."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": NODE,
            "clusterCIDR": POD_CIDR,
            "mode": "nftables",
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        },
        indent=2,
    )


def corefile(kubeconfig: Path) -> str:
    """Names of the cluster are answered; all others do not exist, which is said at once.

    In one server block `template` would answer the cluster's names too: plugins have a fixed order.
    """
    return f"""\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {ADDRESS}
    errors
    ready {ADDRESS}:{COREDNS_READY_PORT}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
    }}
    cache 5
}}
.:53 {{
    bind {ADDRESS}
    errors
    template ANY ANY . {{
        rcode NXDOMAIN
    }}
}}
"""


def contour() -> str:
    """The one Gateway that Contour serves."""
    reference = {"name": GATEWAY, "namespace": GATEWAY_NAMESPACE}
    return json.dumps({"gateway": {"gatewayRef": reference}})


def envoy_address() -> dict[str, Any]:
    """What a cloud's load balancer would write on Envoy's Service: the node's own address."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "envoy", "namespace": GATEWAY_NAMESPACE},
        "status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}]}},
    }
