"""The user's own cluster, taken only when asked for by name.

Nothing is installed into it and nothing of it is removed. Their kubeconfig is read once, and the
current context is copied out of it: changing the context later does not move the development work
to another cluster.
"""

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from .command import run
from .description import Cluster
from .errors import DevError
from .paths import kubeconfig, write_atomically


def up(tree: Path) -> Cluster:
    """Copy the current context, and find the addresses unless the environment tells them.

    `HOST_ADDRESS` and `INGRESS_ADDRESS` are for clusters that reach this machine, or are reached, by
    another way than the API server's.
    """
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise DevError("CLUSTER=existing needs kubectl on PATH.")
    context = run(kubectl, "config", "view", "--minify", "--flatten", "--raw")
    write_atomically(kubeconfig(tree), context, mode=0o600)
    server = urlsplit(yaml.safe_load(context)["clusters"][0]["cluster"]["server"])
    host = server.hostname or "localhost"
    return Cluster(
        kind="existing",
        tree=tree,
        kubeconfig=kubeconfig(tree),
        kubectl=Path(kubectl),
        host_address=os.environ.get("HOST_ADDRESS") or _address_towards(host),
        ingress_address=os.environ.get("INGRESS_ADDRESS") or f"{host}:80",
    )


def down(tree: Path) -> None:
    """Forget the copy of the context."""
    kubeconfig(tree).unlink(missing_ok=True)


def _address_towards(host: str) -> str:
    """The address that this machine sends from when it talks to the cluster; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        return str(probe.getsockname()[0])
