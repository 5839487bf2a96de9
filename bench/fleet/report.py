"""The results as tables in Markdown."""

import os
from pathlib import Path
from statistics import fmean
from typing import Any

from bridge.report import machine

from .stage import AZURE

Record = dict[str, Any]

NAMES = {
    "limit": "budgets raised, Azure without latency",
    "apart": "budgets raised, Azure without latency, half of the cores for the control plane alone",
    "raised": "budgets raised, 50 ms for each call to Azure",
    "default": "budgets as they are by default, 50 ms for each call to Azure",
}
CORES = os.cpu_count() or 1
GOAL_FACTOR = 1.5
GOAL_MIB = 160


def write(records: list[Record], folder: Path) -> None:
    """Write operator.md."""
    lines = [
        *_head(),
        *_opening(records),
        *_limit(records),
        *_restart(records),
        *_requests(records),
    ]
    (folder / "operator.md").write_text("\n".join(lines) + "\n")


def _head() -> list[str]:
    return [
        "# The operator with a fleet",
        "",
        machine(),
        "The load is the machine's of the last minute, at the end of the phase: above 2, others waited for the processors too.",
        "",
        "`make bench-operator` starts the operator as its own process under its own rights, a real kube-apiserver and etcd, and",
        "the simulated Azure with 20 devices on azure-iot-device. The Tunnels are spread over 10 namespaces. Pods are played by a",
        "status writer: bound, Running, and Ready once the device has agreed; devices agree and open no listener. Deleted means",
        "that no Tunnel is left. By default ARM gets 10 calls a second after a burst of 200 (`ARM_PER_SECOND`), IoT Hub 10 after",
        "a burst of 50 (`METHODS_PER_SECOND`): that alone sets the pace of a large fleet. Where budgets are raised, it is by these",
        "two settings.",
        "",
    ]


def _opening(records: list[Record]) -> list[str]:
    lines = ["## Opening and closing", ""]
    heads = (
        *("Tunnels", "with", "all Ready, s", "all deleted, s", "API requests each, opening"),
        *("writes each", "ARM calls each", "methods each", "closing: requests, ARM, methods each"),
        *("peak MiB", "settled MiB", "CPU s opening", "load", "operator ended by itself"),
    )
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for record in records:
        count, opened, closed = record["tunnels"], record["open"], record["close"]
        cells = [
            f"{count:,}",
            NAMES[record["scenario"]],
            f"{opened['seconds']:,}",
            f"{closed['seconds']:,}",
            _each(sum(opened["requests"].values()), count),
            _each(opened["writes"], count),
            _each(opened["azure"]["arm"], count),
            _each(opened["azure"]["methods"], count),
            ", ".join(
                _each(number, count)
                for number in (sum(closed["requests"].values()), *closed["azure"].values())
            ),
            f"{closed['operator']['peak_mib']:.0f}",
            f"{opened['operator']['rss_mib']:.0f}",
            f"{opened['operator']['cpu_s']:.0f}",
            f"{opened['load']}",
            f"{record.get('restarts', 0)}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    peak = max(
        max(record[phase]["operator"]["peak_mib"] for phase in ("open", "close"))
        for record in records
    )
    verdict = "kept" if peak <= GOAL_MIB else "missed"
    return [*lines, "", f"Goal: at most {GOAL_MIB} MiB. **{verdict}**, with {peak:.0f} MiB.", ""]


def _limit(records: list[Record]) -> list[str]:
    compared = [record for record in records if "limits" in record]
    lines = ["## Beside the limit", ""]
    lines += [
        "The limit is a bare asynchronous client with the same concurrency and the same rights on the same API server, just before and",
        "just after: the mean of both counts. For each Tunnel it writes finalizer, two statuses, Secret, Pod and Service. It asks nothing,",
        "decides nothing and knows no Azure. The operator's Azure answers without latency here, but takes processor time of the same cores.",
        "Without Azure's share means without that: Azure does not answer out of the cluster's processors.",
        "At equal speed means by how long a short computation took that ran twice a second all the while (`fleet/yardstick.py`).",
        "On shared cores whatever a client computes is taken from the API server, which a cluster has on machines of its own. There",
        "it is as with the control plane apart: API server and etcd have half of the cores, and everything else, limit or operator with",
        "node, devices and Azure, has the other half.",
        "",
        "| Tunnels | control plane | limit to Ready, s | operator to Ready, s | factor | without Azure's share | at equal speed | goal 1.5 | limit to deleted, s | operator to deleted, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in compared:
        factor, net, even = _factors(record)
        lines.append(
            f"| {record['tunnels']:,} | {'apart' if _is_apart(record) else 'on shared cores'} | {_both(record, 'open')} | {record['open']['seconds']} | {factor:.2f} | "
            f"{net:.2f} | {even:.2f} | {'kept' if even <= GOAL_FACTOR else 'missed'} | "
            f"{_both(record, 'close')} | {record['close']['seconds']} |"
        )
    return [*lines, "", *_beyond(compared)] if compared else []


def _factors(record: Record) -> tuple[float, float, float]:
    """Return the factor as it was, without Azure's share, and that at equal speed of the cores."""
    opened, limits = record["open"], [each["open"] for each in record["limits"]]
    # Apart, the cores that Azure shares are not those that are waited for.
    share = 0.0 if _is_apart(record) else opened["processors"][AZURE] / CORES
    net = opened["seconds"] - share
    bare = fmean(each["seconds"] for each in limits)
    even = fmean(each["seconds"] / each["yardstick_ms"] for each in limits)
    return opened["seconds"] / bare, net / bare, net / opened["yardstick_ms"] / even


def _is_apart(record: Record) -> bool:
    return bool(record["scenario"] == "apart")


def _both(record: Record, phase: str) -> str:
    return ", ".join(str(each[phase]["seconds"]) for each in record["limits"])


def _beyond(compared: list[Record]) -> list[str]:
    """Say what the operator does for a Tunnel that the limit does not, and whose time that takes."""
    shared = [record for record in compared if not _is_apart(record)]
    record = max(shared or compared, key=lambda one: one["tunnels"])
    count, opened = record["tunnels"], record["open"]
    writes = opened["writes"] / count
    reads = sum(opened["requests"].values()) / count - writes
    calls = sum(opened["azure"].values()) / count
    lines = [
        f"For each of {count:,} Tunnels the operator made {writes:.1f} writes where the limit makes 6, {reads:.1f} reads and",
        f"{calls:.1f} calls to Azure where the limit makes none. The processors' time that an opening took, all {CORES} cores together:",
        "",
        "| process | limit, ms for each Tunnel | operator, ms for each Tunnel |",
        "|---|---|---|",
    ]
    first, second = (each["open"]["processors"] for each in record["limits"])
    bare = {name: (first[name] + second[name]) / 2 for name in first}
    ours = opened["processors"]
    for name in ours:
        before = _ms(bare[name], count) if name in bare else "-"
        lines.append(f"| {name} | {before} | {_ms(ours[name], count)} |")
    totals = (_ms(sum(used.values()), count) for used in (bare, ours))
    return [*lines, f"| together | {' | '.join(totals)} |", ""]


def _ms(seconds: float, count: int) -> str:
    return f"{1000 * seconds / count:.0f}"


def _restart(records: list[Record]) -> list[str]:
    if not any("restart" in record for record in records):
        return []
    lines = ["## Restart with all of them running", ""]
    lines += [
        "| Tunnels | with | until all were looked at, s | API reads | API writes | ARM calls | direct methods |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        again = record.get("restart")
        if again is None:
            continue
        total = sum(again["requests"].values())
        cells = [
            f"{record['tunnels']:,}",
            NAMES[record["scenario"]],
            f"{again['seconds']:,}",
            f"{total - again['writes']:,}",
            f"{again['writes']:,}",
            f"{again['azure']['arm']:,}",
            f"{again['azure']['methods']:,}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    asked = [
        r["restart"]["writes"] + r["restart"]["azure"]["methods"] for r in records if "restart" in r
    ]
    verdict = "missed" if any(asked) else "kept"
    return [*lines, "", f"Goal: no write and no direct method. **{verdict}**", ""]


def _requests(records: list[Record]) -> list[str]:
    """Say what the API requests of the largest fleet are."""
    record = max(records, key=lambda one: one["tunnels"])
    count = record["tunnels"]
    lines = [f"## API requests for each Tunnel ({count:,}, {NAMES[record['scenario']]})", ""]
    lines += ["| request | opening | closing |", "|---|---|---|"]
    opened, closed = record["open"]["requests"], record["close"]["requests"]
    for what in dict.fromkeys((*opened, *closed)):
        cells = (_each(opened.get(what, 0), count), _each(closed.get(what, 0), count))
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return lines


def _each(number: float, count: int) -> str:
    return f"{number / count:.2f}"
