"""Run the comparison and write the report: `python -m bridge`."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import client, report
from .client import Load
from .legs import Legs
from .processes import Programs, free_port, wait_for_port
from .systems import SYSTEMS, Place, System, standing

QUICK = Load(first_bytes=20, seconds=1.0)
DELAYED = Load(first_bytes=10, round_trips=12, seconds=1.5)
Figures = dict[str, float]


def measure(system: System, load: Load, *, full: bool) -> Figures:
    """Measure everything once; a figure that can not be had is left out."""
    port, figures = system.port, Figures()
    figures["half"] = client.half_closes(port)
    for name, values in (
        ("first", [_spaced_first_byte(port) for _ in range(load.first_bytes)]),
        ("trip", client.round_trips(port, load.round_trips)),
    ):
        values.sort()
        figures[f"{name}_p50"] = statistics.median(values) * 1000
        figures[f"{name}_p99"] = values[min(len(values) - 1, int(len(values) * 0.99))] * 1000
    figures["connections"] = client.connections_per_second(port, load.seconds, load.parallel)
    before = system.programs.cpu_seconds()
    began = time.perf_counter()
    figures["down_1"] = client.bytes_down(port, load.seconds, 1)
    gib = figures["down_1"] * (time.perf_counter() - began) / (1 << 30)
    for name, seconds in system.programs.cpu_seconds().items():
        figures[f"cpu {name}"] = (seconds - before[name]) / gib
    figures["up_1"] = client.bytes_up(port, load.seconds, 1)
    if full:
        figures["down_8"] = client.bytes_down(port, load.seconds, 8)
        figures["up_8"] = client.bytes_up(port, load.seconds, 8)
    for name, (_, peak) in system.programs.memory().items():
        figures[f"peak {name}"] = peak
    return figures


def _spaced_first_byte(port: int) -> float:
    """Measure one connection, and give a pool the time to fill again: people do not click that fast."""
    took = client.first_byte(port)
    time.sleep(0.1)
    return took


def run(options: argparse.Namespace) -> list[dict[str, object]]:
    """Return one record for each system, network and round."""
    records: list[dict[str, object]] = []
    modes = [(None, options.rounds), (0, options.zero_rounds), (20, options.delayed_rounds)]
    with tempfile.TemporaryDirectory(prefix="bench-bridge-") as folder:
        target, programs = free_port(), Programs(Path(folder) / "target")
        bench = str(Path(__file__).parent.parent)
        programs.start(
            "target", [sys.executable, "-m", "bridge.target", str(target)], {"PYTHONPATH": bench}
        )
        wait_for_port(target)
        try:
            for delay, rounds in modes:
                for number in range(rounds):
                    for name in options.only or SYSTEMS:
                        where = Path(folder) / f"{delay}-{number}-{name.replace(' ', '-')}"
                        records.append(_one(name, delay, target, where, options))
                        print(json.dumps(records[-1]), flush=True)
        finally:
            programs.stop()
    return records


def _one(
    name: str, delay: int | None, target: int, folder: Path, options: argparse.Namespace
) -> dict[str, object]:
    legs = Legs(options.tools / "toxiproxy", folder.with_suffix(".legs"), delay)
    record: dict[str, object] = {"system": name, "delay": delay}
    try:
        place = Place(folder, target, legs, options.tools, options.python)
        with standing(name, place) as system:
            time.sleep(0.5 + (delay or 0) / 20)  # so that pools are full
            record["secured"] = system.secured
            record["idle"] = {k: now for k, (now, _) in system.programs.memory().items()}
            record["figures"] = measure(system, DELAYED if delay else QUICK, full=delay != 0)
    except (OSError, subprocess.CalledProcessError) as error:
        record["failure"] = f"{type(error).__name__}: {error}"
    finally:
        legs.stop()
    return record


def main() -> None:
    """Measure and write bench/results/."""
    parser = argparse.ArgumentParser(prog="bridge", description=__doc__)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "edge-tunnels-bench"
    parser.add_argument("--tools", type=Path, default=home / "bin")
    parser.add_argument("--python", type=Path, default=home / "venv" / "bin" / "python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--zero-rounds", type=int, default=1, help="with toxiproxy and 0 ms")
    parser.add_argument("--delayed-rounds", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(SYSTEMS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results")
    options = parser.parse_args()
    records = run(options)
    options.results.mkdir(exist_ok=True)
    # What was not measured again is kept from the run before.
    measured = {record["delay"] for record in records}
    before = options.results / "bridge.json"
    if before.exists():
        kept = [r for r in json.loads(before.read_text()) if r["delay"] not in measured]
        records = kept + records
    before.write_text(json.dumps(records, indent=1) + "\n")
    report.write(records, options.results)


if __name__ == "__main__":
    main()
