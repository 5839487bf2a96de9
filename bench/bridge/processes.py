"""Programs under measurement: started, waited for, and read in /proc."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class Programs:
    """The processes of one system, by name. Children that they fork count with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> None:
        """Start a program; what it prints goes to a file of its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                list(map(str, argv)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def stop(self) -> None:
        """End all of them, with what they forked."""
        for process in self._running.values():
            with _gone():
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                with _gone():
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._running.clear()

    def pid(self, name: str) -> int:
        """Return a program's process."""
        return self._running[name].pid

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time that each has used."""
        return {name: _cpu(process.pid) for name, process in self._running.items()}

    def memory(self) -> dict[str, tuple[float, float]]:
        """Return each one's resident memory, now and at its peak, in MiB; its children's added."""
        return {name: _memory(process.pid) for name, process in self._running.items()}


class _gone:  # noqa: N801 - a context manager
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and issubclass(kind, ProcessLookupError)


def _family(pid: int) -> list[int]:
    family = [pid]
    for number in family:
        try:
            text = Path(f"/proc/{number}/task/{number}/children").read_text()
        except OSError:
            continue
        family += map(int, text.split())
    return family


def _cpu(pid: int) -> float:
    total = 0
    for number in _family(pid):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rsplit(") ", 1)[1].split()
        except OSError:
            continue
        # utime, stime, and those of children that have ended (proc(5)).
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


def _memory(pid: int) -> tuple[float, float]:
    now = peak = 0.0
    for number in _family(pid):
        try:
            lines = Path(f"/proc/{number}/status").read_text().splitlines()
        except OSError:
            continue
        facts = dict(line.split(":", 1) for line in lines if ":" in line)
        now += int(facts.get("VmRSS", "0").split()[0]) / 1024
        peak += int(facts.get("VmHWM", "0").split()[0]) / 1024
    return now, peak


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody has now."""
    with socket.create_server((host, 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def wait_for_port(port: int, host: str = "127.0.0.1", *, within: float = 20.0) -> None:
    """Return once something listens there."""
    end = time.monotonic() + within
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise TimeoutError(f"Nothing listens on {host}:{port}.") from None
            time.sleep(0.05)
        else:
            return
