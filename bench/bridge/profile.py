"""Where the time of one stream goes, in each process; and what a forwarder costs before it does anything.

`PYTHONPATH=bench .venv/bin/python -m bridge.profile` writes bench/results/profile.md. It needs perf (Debian's
linux-perf), which samples each process while one stream runs as fast as it can.
"""

import argparse
import compileall
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from . import client, footprint
from .legs import Legs
from .processes import Programs, free_port, wait_for_port
from .systems import Place, System, standing

MODES = {"a socket for each stream": "ours, warm", "a shared socket": "ours, multiplexed"}
DIRECTIONS = {"to the client": client.bytes_down, "to the device": client.bytes_up}
PROCESSES = ("relay", "forwarder", "device")
HERTZ = 499

KINDS = (
    ("encryption (libcrypto)", re.compile(r"libcrypto")),
    ("TLS records (libssl)", re.compile(r"libssl|_ssl\.")),
    ("kernel: copying", re.compile(r"\[k\].*(copy|rep_movs|memcpy|csum)", re.IGNORECASE)),
    ("kernel: all else", re.compile(r"\[k\]|kernel|vdso")),
    ("copying (memmove)", re.compile(r"mem(move|cpy|set)|bytearray|libc.*unaligned")),
    ("allocating (libc)", re.compile(r"libc\.so.*(alloc|free|munmap|brk)|libc\.so")),
    ("WebSocket (picows)", re.compile(r"picows")),
    ("TLS transport (aiofastnet)", re.compile(r"aiofastnet|(ssl_|_?transport|utils)\w*\.cpython")),
    ("event loop (uvloop)", re.compile(r"uvloop|loop\.cpython")),
    ("Python", re.compile(r"python")),
)


Shares = dict[str, float]
"""The parts of a process's time, by kind."""


def kind_of(line: str) -> str:
    """Return the kind that a library and symbol belong to."""
    return next((name for name, pattern in KINDS if pattern.search(line)), "other")


def shares(data: Path) -> Shares:
    """Read what perf has recorded."""
    report = subprocess.run(
        ["perf", "report", "-i", str(data), "--stdio", "--sort", "dso,sym", "-F", "sample,dso,sym",
         "--percent-limit", "0"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found: Counter[str] = Counter()
    for text in report.splitlines():
        if match := re.match(r"\s+(\d+)\s+(\S.*)$", text):
            found[kind_of(match[2])] += int(match[1])
    total = sum(found.values()) or 1
    return {name: count / total for name, count in found.items()}


def record(system: System, direction: str, seconds: float, folder: Path) -> dict[str, Shares]:
    """Let one stream run, and return what each process did."""
    files = {name: folder / f"{name}-{time.monotonic_ns()}.data" for name in PROCESSES}
    perfs = [
        subprocess.Popen(
            ["perf", "record", "-q", "-F", str(HERTZ), "-p", str(system.programs.pid(name)),
             "-o", str(file), "--", "sleep", str(seconds)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for name, file in files.items()
    ]  # fmt: skip
    DIRECTIONS[direction](system.port, seconds, 1)
    for perf in perfs:
        perf.wait()
    return {name: shares(file) for name, file in files.items()}


def table(found: dict[str, Shares]) -> list[str]:
    """Return rows of Markdown."""
    names = [name for name, _ in KINDS] + ["other"]
    rows = [f"| | {' | '.join(found)} |", "|---|" + "---|" * len(found)]
    for name in names:
        parts = [one.get(name, 0.0) for one in found.values()]
        if any(part >= 0.005 for part in parts):
            rows.append(f"| {name} | " + " | ".join(f"{part:.0%}" for part in parts) + " |")
    return rows


def prepared(folder: Path) -> Path:
    """Return a copy of the forwarder's source with its bytecode, as in the image."""
    source = Path(__file__).parents[2] / "forwarder-image" / "tunnel_forwarder"
    shutil.copytree(source, folder / "tunnel_forwarder", ignore=shutil.ignore_patterns("*.pyc"))
    compileall.compile_dir(folder, quiet=1)
    return folder


def run(options: argparse.Namespace) -> str:
    """Return the whole page."""
    when = (
        f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {os.cpu_count()} "
        f"processors, load {os.getloadavg()[0]:.1f} before it began"
    )
    page = [
        "# Where the time goes, and what an idle forwarder costs",
        "",
        f"`python -m bridge.profile`, {when}. Relative to each process's own time.",
    ]
    with tempfile.TemporaryDirectory(prefix="profile-") as name:
        folder, target = Path(name), free_port()
        programs = Programs(folder / "target")
        bench = str(Path(__file__).parent.parent)
        programs.start(
            "target", [sys.executable, "-m", "bridge.target", str(target)], {"PYTHONPATH": bench}
        )
        wait_for_port(target)
        try:
            for title, system_name in MODES.items():
                where = folder / system_name.replace(" ", "-")
                place = Place(
                    where, target, Legs(options.tools, where, None), options.tools, options.python
                )
                with standing(system_name, place) as system:
                    for direction in DIRECTIONS:
                        record(system, direction, 1.0, folder)  # warm-up
                        found = record(system, direction, options.seconds, folder)
                        page += ["", f"## {title}, {direction}", "", *table(found)]
            page += [
                "",
                *footprint.page(options.python, prepared(folder / "image"), folder, target),
            ]
        finally:
            programs.stop()
    return "\n".join(page) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(prog="profile", description=__doc__)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-tunnels-bench"
    parser.add_argument("--tools", type=Path, default=home / "bin")
    parser.add_argument("--python", type=Path, default=home / "venv" / "bin" / "python")
    parser.add_argument("--seconds", type=float, default=6.0)
    results = Path(__file__).parents[1] / "results" / "profile.md"
    parser.add_argument("--results", type=Path, default=results)
    options = parser.parse_args()
    page = run(options)
    options.results.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
