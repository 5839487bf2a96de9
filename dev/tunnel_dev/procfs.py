"""Facts about processes from /proc; a process that ends while it is read simply has none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat. A pid with its start time names one process for good."""

    pid: int
    command: str
    state: str
    session: int
    start: int

    @property
    def is_alive(self) -> bool:
        """Whether it runs: a zombie only waits for its parent to read the exit status."""
        return self.state not in "ZX"


def parse_stat(line: str) -> Stat:
    """Split from the last parenthesis: the command name may hold blanks and parentheses."""
    head, _, tail = line.strip().rpartition(")")
    pid, _, command = head.partition(" (")
    fields = tail.split()
    return Stat(
        pid=int(pid),
        command=command,
        state=fields[0],
        session=int(fields[3]),
        start=int(fields[19]),
    )


def read_stat(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def processes() -> Iterator[Stat]:
    """All that are alive now."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (stat := read_stat(int(entry.name))) and stat.is_alive:
            yield stat


def network_namespace(pid: int) -> int | None:
    """The inode that names the namespace.

    None for a process that is gone, and for one that has more capabilities than we do: the kernel
    does not tell, but neither can we have started it.
    """
    try:
        return (PROC / str(pid) / "ns" / "net").stat().st_ino
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None


def is_first_in_its_namespace(pid: int) -> bool:
    """Whether the process is pid 1 of a pid namespace below ours."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(ids) > 1 and ids[-1] == "1"
