"""Background processes that outlive the command that started them, and are never confused.

Each is the leader of a session of its own and is recorded under `.dev/run` by its pid and its start
time, so that a pid that the kernel has given to another process is never signalled. The process
writes its record itself before it becomes the program: there is no moment at which a killed `make`
leaves a program behind that nobody knows of.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .command import search_path
from .errors import DevError
from .paths import log_dir, run_dir
from .procfs import Stat, parse_stat, processes, read_stat
from .waiting import POLL_S, wait_until

LOG_LINES_SHOWN = 15
LOG_LINE_SHOWN = 300
RECORD_THEN_BECOME = 'read -r stat < "/proc/$$/stat" && printf "%s\\n" "$stat" > "$0" && exec "$@"'


@dataclass(frozen=True, slots=True)
class Service:
    """One background process of a checkout; the name is its identity."""

    tree: Path
    name: str
    argv: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)
    netns: str | None = None

    @property
    def log(self) -> Path:
        """What the process printed since its last start."""
        return log_dir(self.tree) / f"{self.name}.log"

    @property
    def record(self) -> Path:
        """The line of /proc/PID/stat that the process found of itself."""
        return run_dir(self.tree) / self.name

    def start(self) -> None:
        """Start it unless it runs; `env` is added to the caller's environment."""
        if self.is_running():
            return
        if self.record.exists():
            # Its children may have outlived it, and would be forgotten with its record.
            self.stop()
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        enter = ("nsenter", f"--net=/run/netns/{self.netns}", "--") if self.netns else ()
        command = ["sh", "-c", RECORD_THEN_BECOME, str(self.record), *enter, *map(str, self.argv)]
        pid = _spawn_detached(
            command, env={**os.environ, "PATH": search_path(), **self.env}, log=self.log
        )
        wait_until(
            lambda: self.is_running() or not _is_alive(pid),
            seconds=10,
            what=f"'{self.name}' did not start",
        )

    def leader(self) -> Stat | None:
        """The running process, as it was when it started; None once it has ended."""
        known = _read_record(self.record)
        return known if known and _is_still(known) else None

    def is_running(self) -> bool:
        """Whether the process that was started is the one that has its pid now."""
        return self.leader() is not None

    def wait_until_ready(self, condition: Callable[[], bool], *, seconds: float) -> None:
        """Wait for the condition; an early end or the deadline shows the log's last lines."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.is_running():
                raise DevError(f"'{self.name}' ended before it was ready.{self._last_words()}")
            if time.monotonic() >= deadline:
                raise DevError(
                    f"'{self.name}' is not ready after {seconds:g} s.{self._last_words()}"
                )
            time.sleep(POLL_S)

    def stop(self, *, grace_s: float = 5) -> None:
        """Ask the whole session to end, then make it; return once nothing of it is left."""
        stop_recorded([self.record], grace_s=grace_s)

    def _last_words(self) -> str:
        last = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        lines = [line[:LOG_LINE_SHOWN] for line in last]
        return f" The end of {self.log}:\n  " + "\n  ".join(lines or ["(empty)"])


def recorded(tree: Path) -> list[Path]:
    """The records of everything that was started from this checkout."""
    folder = run_dir(tree)
    return sorted(folder.iterdir()) if folder.is_dir() else []


def stop_recorded(records: Iterable[Path], *, grace_s: float = 5) -> None:
    """Stop the sessions of several records side by side, and forget them."""
    known = [(path, _read_record(path)) for path in records]
    leaders = [leader for _, leader in known if leader]
    end_all(lambda: sessions_of(leaders), grace_s=grace_s)
    for path, _ in known:
        path.unlink(missing_ok=True)


def end_all(members: Callable[[], list[Stat]], *, grace_s: float) -> None:
    """Signal SIGTERM, then SIGKILL past the grace, until `members` finds nothing alive."""
    _signal_all(members(), signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (alive := members()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if alive:

        def killed() -> bool:
            left = members()
            _signal_all(left, signal.SIGKILL)
            return not left

        wait_until(killed, seconds=10, what="processes are left that SIGKILL does not end")


def sessions_of(leaders: Iterable[Stat]) -> list[Stat]:
    """The living members of sessions, also of those whose leader is gone.

    The kernel gives a pid to nobody else while a session bears its number; so where a leader's pid
    belongs to another process by now, its session is empty.
    """
    sessions = {leader.pid for leader in leaders if not _is_reused(leader)}
    return [process for process in processes() if process.session in sessions]


def _signal_all(targets: Iterable[Stat], number: signal.Signals) -> None:
    for target in targets:
        _signal(target, number)


def _signal(target: Stat, number: signal.Signals) -> None:
    """Signal through a pidfd that was checked after it was opened: no pid can be reused between."""
    try:
        descriptor = os.pidfd_open(target.pid)
    except ProcessLookupError:
        return
    try:
        if _is_still(target):
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _is_reused(known: Stat) -> bool:
    now = read_stat(known.pid)
    return now is not None and now.start != known.start


def _is_still(known: Stat) -> bool:
    now = read_stat(known.pid)
    return now is not None and now.start == known.start and _is_alive(known.pid)


def _is_alive(pid: int) -> bool:
    """Whether it runs; a child of ours that has ended is reaped on the way."""
    now = read_stat(pid)
    if now is not None and now.state == "Z":
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return False
    return now is not None and now.is_alive


def _read_record(path: Path) -> Stat | None:
    """None for a record that is missing, or empty because its process was killed as it wrote."""
    try:
        line = path.read_text()
    except FileNotFoundError:
        return None
    return parse_stat(line) if line.endswith("\n") else None


def _spawn_detached(command: Sequence[str], *, env: Mapping[str, str], log: Path) -> int:
    """Start without a terminal, in a session of its own; posix_spawn leaves no object to wait on."""
    return os.posix_spawnp(
        command[0],
        list(command),
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        # Python ignores these, and what it starts would do so too.
        setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )
