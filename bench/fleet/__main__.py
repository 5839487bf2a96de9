"""Run the scenarios and write the report: `python -m fleet`."""

import argparse
import asyncio
import json
import logging
import tempfile
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from support.processes import Program

from . import counting, report
from .fleet import Fleet
from .kube import Kube
from .limit import Limit
from .stage import Stage, can_be_apart, standing, tunnel_class
from .yardstick import Yardstick

RESULTS = Path(__file__).parent.parent / "results"
UNBOUND = {"ARM_PER_SECOND": "100000", "METHODS_PER_SECOND": "100000"}
WORKERS = 64
LATENCY = 0.05
QUIET_SECONDS = 5

Record = dict[str, Any]


async def open_fleet(stage: Stage, fleet: Fleet, operator: Program) -> Record:
    """Make the Tunnels and wait until all are Ready."""
    pid = operator.pid
    audit, azure = stage.server.audit.stat().st_size, await stage.azure_calls()
    cpu, before = counting.usage(pid)["cpu_s"], stage.processor_seconds()
    cores, began = Yardstick(), time.monotonic()
    with cores.measuring():
        await fleet.make()
        made = time.monotonic() - began
        await fleet.until_ready(within=1800)
    took, used = time.monotonic() - began, _used_since(stage, before)
    used["operator"] = round(counting.usage(pid)["cpu_s"] - cpu, 2)
    await asyncio.sleep(QUIET_SECONDS)
    return _measured(stage, pid, audit, cpu) | {
        "seconds": round(took, 1),
        "made_s": round(made, 1),
        "processors": used,
        "yardstick_ms": cores.milliseconds,
        "azure": await _calls_since(stage, azure),
    }


async def close_fleet(stage: Stage, fleet: Fleet, operator: Program) -> Record:
    """Delete the Tunnels and wait until all are gone, in Azure as well."""
    audit, azure = stage.server.audit.stat().st_size, await stage.azure_calls()
    cpu, began = counting.usage(operator.pid)["cpu_s"], time.monotonic()
    await fleet.delete()
    await fleet.until_gone(within=1800)
    took = time.monotonic() - began
    left = await stage.azure("GET", "/hybrid-connections")
    return _measured(stage, operator.pid, audit, cpu) | {
        "seconds": round(took, 1),
        "azure": await _calls_since(stage, azure),
        "left_in_azure": len(left),
    }


async def restart(stage: Stage, fleet: Fleet, operator: Program, port: int) -> Record:
    """Stop and start the operator, and see what it does about Tunnels that are all as they should be."""
    await operator.stop()
    audit, azure = stage.server.audit.stat().st_size, await stage.azure_calls()
    began = time.monotonic()
    await operator.start()
    await counting.until_seen(port, fleet.count, within=1800)
    took = time.monotonic() - began
    await asyncio.sleep(QUIET_SECONDS)
    return _measured(stage, operator.pid, audit, 0.0) | {
        "seconds": round(took, 1),
        "azure": await _calls_since(stage, azure),
    }


async def limit(stage: Stage, count: int) -> Record:
    """Let the bare client do it, with the rights that the operator has."""
    token = await asyncio.to_thread(stage.token)
    stage.devices.are_asked = False
    async with (
        Kube.connected(stage.server, token) as kube,
        asyncio.TaskGroup() as group,
        Fleet(stage.kube, count).watched() as fleet,
    ):
        writing = group.create_task(Limit(kube, tunnel_class(stage), WORKERS).run())
        before, cores, began = stage.processor_seconds(), Yardstick(), time.monotonic()
        with cores.measuring():
            await fleet.make()
            await fleet.until_ready(within=600)
        opened, used = time.monotonic(), _used_since(stage, before)
        await fleet.delete()
        await fleet.until_gone(within=600)
        writing.cancel()
    stage.devices.are_asked = True
    return {
        "open": {
            "seconds": round(opened - began, 1),
            "processors": used,
            "yardstick_ms": cores.milliseconds,
        },
        "close": {"seconds": round(time.monotonic() - opened, 1)},
    }


def _measured(stage: Stage, pid: int, audit: int, cpu: float) -> Record:
    usage = counting.usage(pid)
    requests = counting.requests_since(stage.server.audit, audit)
    return {
        "operator": usage | {"cpu_s": round(usage["cpu_s"] - cpu, 2)},
        "requests": dict(requests.most_common()),
        "writes": counting.writes(requests),
        "load": counting.load(),
    }


def _used_since(stage: Stage, before: dict[str, float]) -> dict[str, float]:
    now = stage.processor_seconds()
    return {name: round(seconds - before[name], 2) for name, seconds in now.items()}


async def _calls_since(stage: Stage, before: dict[str, int]) -> dict[str, int]:
    now = await stage.azure_calls()
    return {name: count - before[name] for name, count in now.items()}


@dataclass(slots=True)
class Restarts:
    """How often the operator ended by itself, as it does when it can not renew its Lease."""

    count: int = 0


@asynccontextmanager
async def supervised(operator: Program) -> AsyncIterator[Restarts]:
    """Start the operator again whenever it ends by itself, as Kubernetes would."""
    restarts = Restarts()

    async def watch() -> None:
        while True:
            await asyncio.sleep(1)
            if operator.exit_code not in (None, 0):
                restarts.count += 1
                await operator.start()

    watching = asyncio.create_task(watch())
    try:
        yield restarts
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await operator.stop()


async def scenario(name: str, count: int, folder: Path, **options: Any) -> Record:
    """Run one scenario on a stage of its own."""
    record: Record = {"scenario": name, "tunnels": count}
    folder.mkdir(parents=True)
    async with standing(folder, is_apart=options.get("apart", False)) as stage:
        if options.get("limit"):
            record["limits"] = [await limit(stage, count)]
        await stage.slow_azure(options.get("latency", 0.0))
        operator, port = stage.operator(**options.get("settings", {}))
        await operator.start()
        async with supervised(operator) as restarts:
            await counting.until_seen(port, 0, within=60)
            record["idle"] = counting.usage(operator.pid)
            async with Fleet(stage.kube, count).watched() as fleet:
                record["open"] = await open_fleet(stage, fleet, operator)
                if options.get("restart"):
                    record["restart"] = await restart(stage, fleet, operator, port)
                record["close"] = await close_fleet(stage, fleet, operator)
            record["restarts"] = restarts.count
        if options.get("limit"):
            record["limits"].append(await limit(stage, count))
    return record


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tunnels", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--only", nargs="+", choices=("limit", "apart", "raised", "default"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    records: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as folder:
        for name, count, options in _scenarios(given.tunnels):
            if given.only and name not in given.only:
                continue
            print(f"{name}, {count} Tunnels", flush=True)
            where = Path(folder) / f"{name}-{count}"
            try:
                records.append(asyncio.run(scenario(name, count, where, **options)))
            except BaseExceptionGroup as group:
                # Each device is a group in a group: more than Python shows of its own accord.
                traceback.TracebackException.from_exception(group, max_group_depth=100).print()
                raise SystemExit(1) from None
            print(json.dumps(records[-1]), flush=True)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "operator.json").write_text(json.dumps(records, indent=1) + "\n")
    report.write(records, given.results)


def _scenarios(counts: list[int]) -> list[tuple[str, int, Record]]:
    compared: Record = {"limit": True, "settings": UNBOUND}
    apart = counts if can_be_apart() else []
    return [
        *(("limit", count, compared) for count in counts),
        *(("apart", count, compared | {"apart": True}) for count in apart),
        *(
            ("raised", count, {"latency": LATENCY, "restart": True, "settings": UNBOUND})
            for count in counts
        ),
        *(("default", count, {"latency": LATENCY, "restart": True}) for count in counts),
    ]


if __name__ == "__main__":
    main()
