"""The machine that the built cluster runs on: namespaces with a first process that does nothing.

Network, mounts and processes are its own, as in a container, but its files are this machine's. So
the kernel does the cleaning: when the first process is killed, every process inside is, with the
Pods, and their mounts and sockets go with the last of them. The network has no route out.
"""

from pathlib import Path

from . import cgroups, netns
from .command import run
from .errors import DevError
from .paths import cluster_dir
from .process import Service, sessions_of
from .procfs import Stat, is_first_in_its_namespace

NAME = "machine"
NETNS = "edge-tunnels"
LINK = "edge-tunnels0"
ADDRESS = "10.245.0.1"
HOST_ADDRESS = "10.245.0.2"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"

# Where containerd, the CNI plugins and the kubelet write whatever they are told.
BORROWED = (Path("/var/lib/cni"), Path("/var/lib/kubelet"))

# Images and containers, in memory: on a disk, unpacking an image waits for it several times.
IMAGES = "containerd"

# Runs inside, before anything else does. Mounts propagate among Pods, but no longer to the machine
# around. That `sleep` ignores SIGCHLD makes the kernel reap orphans.
FURNISH = f"""
set -e
umount --all --lazy --types nsfs
mount --make-rshared /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/log
mkdir -p "$1/{IMAGES}"
mount -t tmpfs -o mode=711 tmpfs "$1/{IMAGES}"
for folder in {" ".join(map(str, BORROWED))}; do
    mkdir -p "$1/$folder"
    mount --bind "$1/$folder" "$folder"
done
echo 1 > /proc/sys/net/ipv4/ip_forward
ip route add {SERVICE_CIDR} dev eth0 src {ADDRESS}
exec env --ignore-signal=CHLD sleep infinity
"""


def power_on(tree: Path) -> None:
    """Make the namespaces and the cable to them, and start the first process."""
    cgroups.create()
    for folder in BORROWED:
        folder.mkdir(exist_ok=True)
    netns.create(NETNS)
    netns.connect(NETNS, link=LINK, inside=f"{ADDRESS}/24", outside=f"{HOST_ADDRESS}/24")
    netns.claim(LINK, tree)
    for cidr in (SERVICE_CIDR, POD_CIDR):
        run("ip", "route", "replace", cidr, "via", ADDRESS, "dev", LINK)
    first = _first(tree)
    first.start()
    first.wait_until_ready(lambda: _furnished(tree) is not None, seconds=10)


def power_off() -> None:
    """Kill everything inside, then remove what the machine around can see of it."""
    netns.delete(NETNS)
    netns.disconnect(LINK)
    cgroups.remove()
    for folder in BORROWED:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def is_on(tree: Path) -> bool:
    """Whether this checkout's machine runs, furnished and connected."""
    return netns.owner(LINK) == tree and _furnished(tree) is not None


def enter(tree: Path) -> tuple[str, ...]:
    """The prefix that runs a command inside."""
    first = _furnished(tree)
    if first is None:
        raise DevError("The built cluster is not running: `make cluster` starts it.")
    return ("nsenter", f"--target={first.pid}", "--net", "--mount", "--pid", "--")


def _first(tree: Path) -> Service:
    unshare = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", "--")
    furnish = ("sh", "-c", FURNISH, "furnish", cluster_dir(tree))
    return Service(tree=tree, name=NAME, argv=(*unshare, *furnish), netns=NETNS)


def _furnished(tree: Path) -> Stat | None:
    """The first process inside, once it has nothing left to do but sleep."""
    leader = _first(tree).leader()
    for process in sessions_of([leader] if leader else []):
        if process.command == "sleep" and is_first_in_its_namespace(process.pid):
            return process
    return None
