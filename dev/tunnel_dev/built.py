"""The cluster of real components, built from source, in namespaces on this machine.

Everything is started so that it may be started again: `up` on a running cluster starts what has died
and waits for what is not ready, and `up` after an interruption first removes what was half made.
"""

import os
import shutil
from pathlib import Path

from . import machine, netns, packages, toolchain
from .console import step
from .description import Cluster
from .errors import DevError
from .paths import cluster_dir, run_dir
from .paths import kubeconfig as kubeconfig_path
from .pause_image import ensure as ensure_pause_image
from .process import stop_recorded
from .startup import COMPONENTS, Startup

RECORDS = (machine.NAME, *COMPONENTS)


def prepare(tree: Path) -> None:
    """Make what takes minutes, once, unless it could not be used: packages, programs, an image."""
    if os.geteuid():
        raise DevError(
            "The built cluster needs root, for its network and its containers: run this with sudo, "
            "or start a Docker engine, which CLUSTER=kind uses."
        )
    _refuse_if_taken(tree)
    packages.ensure({**packages.CLUSTER, **packages.IMAGES})
    toolchain.ensure(toolchain.CLUSTER)
    ensure_pause_image()


def up(tree: Path) -> Cluster:
    """Start whatever is not running, and return when a Pod can run and an Ingress is served."""
    _refuse_if_taken(tree)
    startup = Startup(tree)
    is_up = is_running(tree)
    with step("Checking the cluster's parts" if is_up else "Starting the cluster, about 10 s"):
        if not machine.is_on(tree):
            down(tree)
            machine.power_on(tree)
        startup.run()
    return Cluster(
        kind="built",
        tree=tree,
        kubeconfig=kubeconfig_path(tree),
        kubectl=toolchain.tools_dir() / "kubectl",
        host_address=machine.HOST_ADDRESS,
        ingress_address=f"{machine.ADDRESS}:80",
    )


def down(tree: Path) -> None:
    """Remove the machine and all that its parts wrote, unless it is another checkout's."""
    if netns.owner(machine.LINK) not in {None, tree}:
        return
    if os.geteuid() and netns.exists(machine.NETNS):
        raise DevError("The built cluster was started by root: stop it with sudo.")
    machine.power_off()
    stop_recorded([run_dir(tree) / name for name in RECORDS], grace_s=0)
    if cluster_dir(tree).exists():
        shutil.rmtree(cluster_dir(tree))
    kubeconfig_path(tree).unlink(missing_ok=True)


def is_running(tree: Path) -> bool:
    """Whether its machine and all of its parts run."""
    return machine.is_on(tree) and Startup(tree).is_complete()


def _refuse_if_taken(tree: Path) -> None:
    netns.refuse_if_taken(machine.LINK, tree, what="development cluster")
