"""What others need to know of a cluster, and where that is kept between commands."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .paths import state_dir, write_atomically


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster.

    `host_address` is where Pods reach a process of this machine, which must listen there;
    `ingress_address` is the host:port that answers an Ingress's HTTP requests from this machine.
    """

    kind: str
    tree: Path
    kubeconfig: Path
    kubectl: Path
    host_address: str
    ingress_address: str


def save(cluster: Cluster) -> None:
    """Write it as the last step of bringing the cluster up: a file that is there speaks the truth."""
    values = {name: str(value) for name, value in asdict(cluster).items()}
    write_atomically(_file(cluster.tree), json.dumps(values, indent=2) + "\n")


def load(tree: Path) -> Cluster | None:
    """The cluster that this checkout brought up last and has not taken down."""
    if not _file(tree).exists():
        return None
    values = json.loads(_file(tree).read_text())
    return Cluster(
        kind=values["kind"],
        tree=Path(values["tree"]),
        kubeconfig=Path(values["kubeconfig"]),
        kubectl=Path(values["kubectl"]),
        host_address=values["host_address"],
        ingress_address=values["ingress_address"],
    )


def forget(tree: Path) -> None:
    """Say that there is no cluster, before anything of it is stopped."""
    _file(tree).unlink(missing_ok=True)


def _file(tree: Path) -> Path:
    return state_dir(tree) / "cluster.json"
