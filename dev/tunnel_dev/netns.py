"""A network namespace under its name in /run/netns, and all processes that are in it."""

from pathlib import Path

from .command import attempt, run
from .errors import DevError
from .process import end_all
from .procfs import Stat, network_namespace, processes
from .waiting import wait_until

FOLDER = Path("/run/netns")
LINKS = Path("/sys/class/net")


def exists(name: str) -> bool:
    """Whether the name stands for a namespace, and is not the bare file of a killed `ip netns add`."""
    return _inode(name) is not None


def create(name: str) -> None:
    """Make it with a loopback that is up; what a killed run left under the name is replaced."""
    delete(name)
    run("ip", "netns", "add", name)
    run("ip", "-netns", name, "link", "set", "lo", "up")


def delete(name: str) -> None:
    """End every process in the namespace, and remove it with its links, routes and rules."""
    end_all(lambda: members(name), grace_s=0)
    if (FOLDER / name).exists():
        run("ip", "netns", "delete", name)
    _leave_no_mount()


def members(name: str) -> list[Stat]:
    """The processes in the namespace, whoever started them; none where it does not exist."""
    inode = _inode(name)
    if inode is None:
        return []
    return [process for process in processes() if network_namespace(process.pid) == inode]


def connect(name: str, *, link: str, inside: str, outside: str) -> None:
    """Lay a cable between the namespace and this machine: `eth0` there, `link` here.

    Addresses are in CIDR notation. Either end's removal removes the other.
    """
    disconnect(link)
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "-netns", name, "address", "add", inside, "dev", "eth0")
    run("ip", "-netns", name, "link", "set", "eth0", "up")
    run("ip", "address", "add", outside, "dev", link)
    run("ip", "link", "set", link, "up")


def disconnect(link: str) -> None:
    """Remove the link, and the addresses and routes that are on it, if it is there.

    The kernel may be at it already: it removes the links of a deleted namespace when it finds time.
    """
    if (LINKS / link).exists():
        said = attempt("ip", "link", "delete", link).stderr.strip()
        wait_until(
            lambda: not (LINKS / link).exists(), seconds=10, what=f"the link {link} stays: {said}"
        )


def claim(link: str, tree: Path) -> None:
    """Write the checkout's path on the cable as its alias, which goes when the cable goes."""
    run("ip", "link", "set", link, "alias", tree)


def owner(link: str) -> Path | None:
    """The checkout that the cable belongs to; None without a cable, or where nobody claimed it.

    A checkout that has been deleted owns nothing.
    """
    alias = LINKS / link / "ifalias"
    name = alias.read_text().strip() if alias.exists() else ""
    return Path(name) if name and Path(name).is_dir() else None


def refuse_if_taken(link: str, tree: Path, *, what: str) -> None:
    """Addresses and names are the same in every checkout, so that only one can use them at a time."""
    other = owner(link)
    if other not in {None, tree}:
        raise DevError(f"The {what} of {other} is running: `make -C {other} down` stops it.")


def _inode(name: str) -> int | None:
    path = FOLDER / name
    if not path.exists():
        return None
    found = path.stat()
    # In the file system of the folder itself, it is only a file that nothing is mounted on.
    return None if found.st_dev == FOLDER.stat().st_dev else found.st_ino


def _leave_no_mount() -> None:
    """Undo `ip netns add`'s mount of the folder upon itself once it holds no namespace.

    Where the folder is in use again by then, both commands fail, and that is right.
    """
    if FOLDER.is_dir() and not any(FOLDER.iterdir()):
        attempt("umount", FOLDER)
        attempt("rmdir", FOLDER)
