"""The development cluster, of whatever kind this machine can have."""

from pathlib import Path

from . import built, description, existing, hospital, kind_cluster
from .console import say
from .description import Cluster
from .errors import DevError
from .lock import exclusive
from .paths import cache_dir, state_dir
from .process import recorded, stop_recorded

__all__ = ["FLAVOURS", "Cluster", "current", "down", "up"]

FLAVOURS = ("auto", "kind", "built", "existing")


def up(tree: Path, *, flavour: str = "auto") -> Cluster:
    """Bring the cluster up, or find it running, and return where it is.

    `auto` is kind where a Docker engine answers, and the built cluster elsewhere. An existing
    cluster is taken only by name: nobody's own cluster is used because it happened to be there.
    """
    tree = tree.resolve()
    state_dir(tree).mkdir(exist_ok=True)
    chosen = _choose(flavour)
    if chosen == "built":
        built.prepare(tree)
    with exclusive(cache_dir(), what="starting or stopping a cluster"):
        running = description.load(tree)
        if running and running.kind != chosen:
            raise DevError(f"The {running.kind} cluster of this checkout is up: `make down` first.")
        match chosen:
            case "kind":
                cluster = kind_cluster.up(tree)
            case "built":
                cluster = built.up(tree)
            case _:
                cluster = existing.up(tree)
        description.save(cluster)
    say(f"The {cluster.kind} cluster is up: export KUBECONFIG={cluster.kubeconfig}")
    return cluster


def down(tree: Path) -> None:
    """Stop every process that was started from this checkout, and remove what they ran in."""
    tree = tree.resolve()
    with exclusive(cache_dir(), what="starting or stopping a cluster"):
        description.forget(tree)
        stop_recorded(path for path in recorded(tree) if path.name not in built.RECORDS)
        hospital.down(tree)
        built.down(tree)
        kind_cluster.down(tree)
        existing.down(tree)
    say("Everything that this checkout started is stopped and removed.")


def current(tree: Path) -> Cluster | None:
    """The running cluster; nothing is started, and one that has lost a part does not count."""
    tree = tree.resolve()
    cluster = description.load(tree)
    if cluster is None:
        return None
    match cluster.kind:
        case "built":
            is_running = built.is_running(tree)
        case "kind":
            is_running = kind_cluster.is_running()
        case _:
            is_running = True
    return cluster if is_running else None


def _choose(flavour: str) -> str:
    if flavour not in FLAVOURS:
        raise DevError(f"CLUSTER={flavour} is none of {', '.join(FLAVOURS)}.")
    if flavour != "auto":
        return flavour
    return "kind" if kind_cluster.has_engine() else "built"
