"""The Debian packages that the built cluster is made with."""

import os
import shutil

from .command import attempt, run, search_path
from .console import say, step
from .errors import DevError

# The program that proves a package, and the package.
NETWORK = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux"}
CLUSTER = {
    **NETWORK,
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ethtool": "ethtool",
    "socat": "socat",
    "mount": "mount",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}


def ensure(programs: dict[str, str]) -> None:
    """Install what is missing; where that can't be done, say what to do by hand."""
    missing = sorted({package for program, package in programs.items() if not _is_here(program)})
    if not missing:
        return
    by_hand = f"install {', '.join(missing)} with your system's package manager"
    if not shutil.which("apt-get"):
        raise DevError(f"Programs are missing and this is no Debian system: {by_hand}.")
    if os.geteuid():
        raise DevError(f"Programs are missing: run `sudo apt-get install {' '.join(missing)}`.")
    say(f"Missing Debian packages: {', '.join(missing)}.")
    with step("Installing them", estimate="half a minute"):
        _apt_get("update", "-qq")
        _apt_get("install", "--yes", "--no-install-recommends", *missing)


def _is_here(program: str) -> bool:
    return shutil.which(program, path=search_path()) is not None


def _apt_get(*arguments: str) -> None:
    """Wait for another apt-get, and finish one that was killed half way."""
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    if attempt("dpkg", "--audit").stdout.strip():
        run("dpkg", "--configure", "--pending", env=environment)
    run("apt-get", "-o", "DPkg::Lock::Timeout=600", *arguments, env=environment)
