"""The cluster's own control group in every hierarchy of this machine, version 1 and 2 alike.

The kubelet makes the Pods' groups below it, so that they can be told from anyone else's and removed.
"""

import errno
from pathlib import Path

from .waiting import wait_until

MOUNT = Path("/sys/fs/cgroup")
NAME = "edge-tunnels"


def create() -> None:
    """Make the group; in the unified hierarchy with the controllers that a kubelet wants."""
    for hierarchy in hierarchies():
        group = hierarchy / NAME
        if (hierarchy / "cgroup.controllers").exists():
            _delegate(hierarchy)
            group.mkdir(exist_ok=True)
            _delegate(group)
        group.mkdir(exist_ok=True)


def remove() -> None:
    """Remove the groups, lowest first; a process that was just killed holds its own for a moment."""
    for hierarchy in hierarchies():
        group = hierarchy / NAME
        if group.exists():
            wait_until(
                lambda group=group: _is_removed(group),  # type: ignore[misc]
                seconds=10,
                what=f"the control group {group} stays in use",
            )


def hierarchies(mount: Path = MOUNT) -> list[Path]:
    """The mounted hierarchies: one where cgroups are version 2, one for each controller before."""
    if (mount / "cgroup.controllers").exists():
        return [mount]
    return sorted(path for path in mount.iterdir() if path.is_dir() and not path.is_symlink())


def _delegate(group: Path) -> None:
    """Let the group's children be limited by all that it has controllers for."""
    wanted = (group / "cgroup.controllers").read_text().split()
    (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted))


def _is_removed(group: Path) -> bool:
    for folder in sorted((p for p in group.rglob("*") if p.is_dir()), reverse=True):
        _remove_if_empty(folder)
    _remove_if_empty(group)
    return not group.exists()


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY, errno.ENOENT):
            raise
