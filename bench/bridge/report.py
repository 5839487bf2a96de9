"""The results as a table in Markdown and a plot in SVG."""

import os
import platform
import statistics
import timeit
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

Record = dict[str, Any]
MODES: tuple[tuple[int | None, str], ...] = (
    (None, "Loopback"),
    (0, "Through toxiproxy on each leg, 0 ms (what toxiproxy itself costs)"),
    (20, "20 ms on each leg, each way"),
)
COLUMNS: tuple[tuple[str, str, float, int], ...] = (
    ("first_p50", "first byte p50, ms", 1, 2),
    ("first_p99", "p99", 1, 2),
    ("trip_p50", "round trip p50, ms", 1, 3),
    ("trip_p99", "p99", 1, 3),
    ("connections", "new connections/s", 1, 0),
    ("down_1", "MiB/s down, 1 stream", 1 << 20, 0),
    ("up_1", "up, 1", 1 << 20, 0),
    ("down_8", "down, 8", 1 << 20, 0),
    ("up_8", "up, 8", 1 << 20, 0),
)


def write(records: list[Record], folder: Path) -> None:
    """Write bridge.md and bridge.svg."""
    (folder / "bridge.md").write_text("\n".join(_markdown(records)) + "\n")
    (folder / "bridge.svg").write_text(_plot(records))


def _values(records: Iterable[Record], system: str, delay: int | None, key: str) -> list[float]:
    return [
        record["figures"][key]
        for record in records
        if record["system"] == system
        and record["delay"] == delay
        and key in record.get("figures", {})
    ]


def _cell(values: list[float], scale: float, digits: int) -> str:
    if not values:
        return "-"
    middle = statistics.median(values) / scale
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    spread = (max(values) - min(values)) / scale
    return f"{middle:,.{digits}f} ±{spread / 2:,.{digits}f}"


def _systems(records: list[Record]) -> list[str]:
    return list(dict.fromkeys(record["system"] for record in records))


def _markdown(records: list[Record]) -> list[str]:
    lines = ["# The bridge beside what people use", "", machine(), ""]
    for delay, title in MODES:
        rows = [record for record in records if record["delay"] == delay]
        if not rows:
            continue
        lines += [f"## {title}", "", "Medians of the rounds, ± half of the spread.", ""]
        heads = ["system", "secured", *(head for _, head, _, _ in COLUMNS), "half-close"]
        lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for system in _systems(rows):
            lines.append(_row(rows, system, delay))
        failures = [r for r in rows if "failure" in r]
        lines += ["", *(f"* {r['system']}: {r['failure']}" for r in failures), ""]
    return [*lines, *_costs(records), "", *NOTES]


NOTES = (
    "## How to read it",
    "",
    "* First byte: from the connection's start to the first byte of an answer to the client's question.",
    "* Ours and ssh -R, rathole and bore have a middle that both ends dial, as a device behind a firewall needs;",
    "  socat and stunnel dial the device itself, over both legs. Ours alone encrypts each leg of the two by itself.",
    "* toxiproxy delays no TCP handshake: dialling anew looks better than it is, by a round trip a leg. It passes",
    "  no half-close on: where the client's own connection goes through it, the last column judges it alone.",
    "* The loopback rows and the delayed rows may be of two runs (`--rounds 0` keeps the former).",
    "* ssh -R's memory is that of the processes alone, without the session's login.",
)


def _row(rows: list[Record], system: str, delay: int | None) -> str:
    secured = next((r["secured"] for r in rows if r["system"] == system and "secured" in r), "-")
    cells = [_cell(_values(rows, system, delay, key), by, n) for key, _, by, n in COLUMNS]
    half = _values(rows, system, delay, "half")
    cells.append(f"{min(half):.0f}/5" if half else "-")
    return f"| {system} | {secured} | " + " | ".join(cells) + " |"


def _costs(records: list[Record]) -> list[str]:
    lines = ["## What each process costs (loopback)", ""]
    lines += ["| system | process | CPU s/GiB, 1 stream down | MiB idle | MiB at peak |"]
    lines += ["|---|---|---|---|---|"]
    here = [record for record in records if record["delay"] is None and "figures" in record]
    for system in _systems(here):
        rows = [record for record in here if record["system"] == system]
        for name in rows[0]["idle"]:
            cells = [
                _cell(_values(rows, system, None, f"cpu {name}"), 1, 2),
                _cell([record["idle"][name] for record in rows], 1, 1),
                _cell(_values(rows, system, None, f"peak {name}"), 1, 1),
            ]
            lines.append(f"| {system} | {name} | " + " | ".join(cells) + " |")
    return lines


def machine() -> str:
    """Return where this runs, and how fast that is now: to be asked when nothing else runs any more."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    return (
        f"Machine: {os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}. Everything, the clients included, shares these cores.\n"
        f"After the run, ten million additions in Python took {_yardstick():.1f} s: rented cores are not always as fast."
    )


def _yardstick() -> float:
    """Return how many seconds a fixed piece of work takes; the best of three, since others may disturb one."""
    return min(timeit.repeat("for i in range(10_000_000): s += i", "s = 0", number=1, repeat=3))


PANELS = (
    ("first_p50", 20, "First byte, 20 ms on each leg (ms, less is better)", 1.0),
    ("connections", None, "New connections a second (loopback)", 1.0),
    ("down_1", None, "One stream down (MiB/s, loopback)", float(1 << 20)),
    ("up_1", None, "One stream up (MiB/s, loopback)", float(1 << 20)),
)
_WIDTH, _BAR, _PANEL = 860, 20, 44


def _plot(records: list[Record]) -> str:
    parts, y = [], 20
    for key, delay, title, scale in PANELS:
        bars = [(s, _values(records, s, delay, key)) for s in _systems(records)]
        bars = [(s, v) for s, v in bars if v and not (s == "direct" and key != "first_p50")]
        top = max((statistics.median(v) for _, v in bars), default=1.0)
        parts.append(f'<text x="10" y="{y}" class="t">{escape(title)}</text>')
        y += 10
        for system, values in bars:
            middle = statistics.median(values)
            width = 540 * middle / top
            kind = "o" if system.startswith("ours") else "p"
            parts.append(
                f'<text x="150" y="{y + 14}" text-anchor="end">{escape(system)}</text>'
                f'<rect x="158" y="{y + 2}" width="{width:.1f}" height="15" class="{kind}"/>'
                f'<text x="{164 + width:.1f}" y="{y + 14}">{middle / scale:,.1f}</text>'
            )
            y += _BAR
        y += _PANEL
    style = (
        "text{font:12px system-ui,sans-serif;fill:#1b2733}.t{font-weight:600}"
        ".o{fill:#0b7a75}.p{fill:#9fb3c1}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>'
        + "".join(parts)
        + "</svg>\n"
    )
