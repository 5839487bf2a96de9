"""What a forwarder costs before it does anything: the time of its start, and its memory by what it imports."""

import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from .legs import Legs
from .systems import Place, standing

ROUNDS = 3

PROBE = """
import importlib._bootstrap as bootstrap, json, sys
def resident():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Rss"))
costs, stack, plain, start = {}, [], bootstrap._load_unlocked, resident()
def load(spec):
    before = resident()
    stack.append(0)
    try:
        return plain(spec)
    finally:
        whole, inner = resident() - before, stack.pop()
        costs[spec.name] = whole - inner
        if stack:
            stack[-1] += whole
bootstrap._load_unlocked = load
import tunnel_forwarder.__main__
print(json.dumps({"start": start, "end": resident(), "modules": costs}))
"""
"""Imports the forwarder and notes by how much the process grows with each module alone."""


class Compiled(Place):
    """The forwarder as the image has it: compiled."""

    @property
    def forwarder(self) -> tuple[list[str | Path], dict[str, str]]:
        """The command, and an environment that leads to the compiled copy."""
        command, _ = super().forwarder
        return command, {"PYTHONPATH": str(self.folder.parent / "image")}


def by_package(python: Path, source: Path) -> tuple[dict[str, float], float, float]:
    """Return MiB by package, the interpreter's own, and all after the imports."""
    output = subprocess.run(
        [str(python), "-c", PROBE],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    facts = json.loads(output)
    sums: Counter[str] = Counter()
    for module, size in facts["modules"].items():
        sums[_package(module)] += size
    named = {name: size / 1024 for name, size in sums.most_common()}
    return named, facts["start"] / 1024, facts["end"] / 1024


def _package(module: str) -> str:
    name = module.partition(".")[0]
    return {"_ssl": "ssl", "_hashlib": "ssl", "_asyncio": "asyncio", "_datetime": "datetime"}.get(
        name, name
    )


def slowest_imports(python: Path, source: Path) -> list[tuple[float, str]]:
    """Return milliseconds and name of what takes longest to import, with all that it imports itself."""
    text = subprocess.run(
        [str(python), "-X", "importtime", "-c", "import tunnel_forwarder.__main__"],
        env={"PYTHONPATH": str(source), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    ).stderr  # fmt: skip
    found = re.findall(r"import time:\s+\d+ \|\s+(\d+) \|\s+(\S+)", text)
    return sorted(((int(us) / 1000, name) for us, name in found), reverse=True)


def start(
    python: Path, folder: Path, target: int, number: int, mode: str
) -> tuple[float, float, dict[str, float]]:
    """Return seconds to ready, CPU seconds until then, and the memory of an idle forwarder in MiB."""
    where = folder / f"start-{number}"
    place = Compiled(where, target, Legs(Path(), where, None), Path(), python)
    with standing(mode, place) as system:
        pid = system.programs.pid("forwarder")
        cpu = system.programs.cpu_seconds()["forwarder"]
        took = place.times["ready"] - place.times["start"]
        time.sleep(3)
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {k: int(v.split()[0]) / 1024 for k, _, v in (x.partition(":") for x in lines[1:])}
    return took, cpu, sizes


def page(python: Path, source: Path, folder: Path, target: int) -> list[str]:
    """Return rows of Markdown."""
    rows = ["## An idle forwarder", ""]
    rows += [
        "| | start to ready, s | CPU s until then | RSS, MiB | of these own | of these pages of files |"
    ]
    rows += ["|---|---|---|---|---|---|"]
    for at, mode in enumerate(("ours, warm", "ours, multiplexed")):
        runs = [start(python, folder, target, 10 * at + n, mode) for n in range(ROUNDS)]
        took, cpu = (statistics.median(run[n] for run in runs) for n in (0, 1))
        rss, own = (statistics.median(run[2][k] for run in runs) for k in ("Rss", "Anonymous"))
        rows.append(
            f"| {mode} | {took:.2f} | {cpu:.2f} | {rss:.1f} | {own:.1f} | {rss - own:.1f} |"
        )
    sizes, first, last = by_package(python, source)
    rows += [
        "",
        f"The interpreter alone takes {first:.1f} MiB, after all imports it is {last:.1f}. By package:",
        "",
    ]
    rows += ["| package | MiB |", "|---|---|"]
    rows += [f"| {name} | {size:.2f} |" for name, size in sizes.items() if size >= 0.2]
    rows += [
        "",
        "Longest imports, with what they import themselves:",
        "",
        "| module | ms |",
        "|---|---|",
    ]
    rows += [f"| {name} | {ms:.0f} |" for ms, name in slowest_imports(python, source)[:12]]
    return rows


if __name__ == "__main__":
    sys.exit("This is a part of `python -m bridge.profile`.")
