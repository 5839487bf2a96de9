"""What a process used, and what it asked of the API server."""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from simulation import cpu_seconds, resident_kib

OPERATOR = "system:serviceaccount:tunnels-system:tunnel-operator"


def requests_since(log: Path, offset: int) -> Counter[str]:
    """Return what the operator asked of the API server since then, its watches and its Lease left out."""
    found: Counter[str] = Counter()
    with log.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            event = json.loads(line)
            reference = event.get("objectRef")
            if event["user"]["username"] != OPERATOR or reference is None:
                continue
            if event["verb"] == "watch" or reference["resource"] == "leases":
                continue
            subresource = reference.get("subresource")
            resource = reference["resource"] + (f"/{subresource}" if subresource else "")
            found[f"{event['verb']} {resource}"] += 1
    return found


def writes(requests: Mapping[str, int]) -> int:
    """Return how many of them change something."""
    reads = ("get ", "list ")
    return sum(count for what, count in requests.items() if not what.startswith(reads))


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has had resident."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def usage(pid: int) -> dict[str, float]:
    """Return a process' memory and processor time."""
    return {
        "peak_mib": round(peak_mib(pid), 1),
        "rss_mib": round(resident_kib(pid) / 1024, 1),
        "cpu_s": round(cpu_seconds(pid), 2),
    }


def load() -> float:
    """Return the machine's load of the last minute: others may be at work here."""
    return round(os.getloadavg()[0], 1)


async def until_seen(port: int, tunnels: int, *, within: float) -> None:
    """Return once the operator has looked at all Tunnels and has nothing left to do."""
    async with asyncio.timeout(within), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    text = await answer.text()
            except aiohttp.ClientError:
                text = ""
            idle = all(
                re.search(rf"^tunnel_operator_{name} 0.0$", text, re.MULTILINE)
                for name in ("queue_depth", "active_passes")
            )
            if idle and text.count("\ntunnel_ready_reason{") >= tunnels:
                return
            await asyncio.sleep(0.5)
