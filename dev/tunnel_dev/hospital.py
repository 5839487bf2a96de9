"""The hospital: a network of its own for the simulated device, which can only dial out.

Its firewall drops every connection that begins outside, as the ones in front of real devices do.
From inside, this machine answers at 10.245.0.2, where Pods find it too; the way is the default
route, and no forwarding is needed, since every address of a machine is local to it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from . import netns, packages
from .command import run
from .process import Service

NAME = "hospital"
LINK = "hospital0"
INSIDE = "10.245.1.1"
OUTSIDE = "10.245.1.2"

FIREWALL = """
table inet firewall {
  chain input {
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
  }
}
"""


def up(tree: Path) -> None:
    """Build it unless it is there whole; what a killed run left of it is replaced."""
    netns.refuse_if_taken(LINK, tree, what="hospital")
    if is_up():
        return
    packages.ensure(packages.NETWORK)
    netns.create(NAME)
    # The firewall comes before the cable: the hospital is never open.
    run("nsenter", f"--net=/run/netns/{NAME}", "--", "nft", "-f", "-", stdin=FIREWALL)
    netns.connect(NAME, link=LINK, inside=f"{INSIDE}/24", outside=f"{OUTSIDE}/24")
    netns.claim(LINK, tree)
    run("ip", "-netns", NAME, "route", "add", "default", "via", OUTSIDE)


def down(tree: Path) -> None:
    """End every process in it and remove it, unless it is another checkout's."""
    if netns.owner(LINK) in {None, tree}:
        netns.delete(NAME)
        netns.disconnect(LINK)


def is_up() -> bool:
    """Whether it is complete: the default route is the last thing that `up` adds."""
    if not netns.exists(NAME):
        return False
    return "default" in run("ip", "-netns", NAME, "route", "show", "default")


def service(
    tree: Path, name: str, argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None
) -> Service:
    """Describe a background process in the hospital; start it when the hospital is up."""
    return Service(tree=tree, name=name, argv=argv, env=env or {}, netns=NAME)
