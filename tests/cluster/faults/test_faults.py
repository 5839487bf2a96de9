"""Whatever fails around the operator, once it works again everything is as it should be, within a bound.

While the fault lasts, a tunnel is made, one is changed and one is deleted; those that run are not touched.
"""

import base64
import json
import time
from datetime import datetime

import pytest

from support.actions import once
from support.faults import ROWS

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(600)]

RUNNING = ("runs-1", "runs-2")
BEFORE = (*RUNNING, "changes", "goes")
AFTER = (*RUNNING, "changes", "comes")
OPEN_WITHIN = 60.0


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
async def test_recovers(row, surroundings, theatre, kubelet, table, request):  # noqa: PLR0917
    for name in BEFORE:
        await theatre.create(name)
    await once(lambda: are_open(theatre, BEFORE), within=OPEN_WITHIN, what="tunnels are open")
    traces = [await trace(theatre, name, row) for name in RUNNING]
    seconds = row.lasts
    if row.lasts_long is not None and request.config.getoption("--long"):
        seconds = row.lasts_long
    began = time.monotonic()
    if row.is_edited_before:
        await edit(theatre)
    async with row.trouble(surroundings, seconds):
        if not row.is_edited_before:
            await edit(theatre)
    ended = time.monotonic()
    await once(lambda: is_as_edited(theatre), within=row.bound, what=f"{row.name}: recovers")
    table.append((row.name, ended - began, time.monotonic() - ended, tuple(kubelet.ends)))
    assert [await trace(theatre, name, row) for name in RUNNING] == traces
    for mark in ("SharedAccess", "sig=", "eyJ"):
        assert mark not in theatre.operator.output
    assert "pass.crashed" not in theatre.operator.output


async def edit(theatre):
    await theatre.create("comes")
    await theatre.change("changes", ttl="1h")
    await theatre.delete("goes")


async def trace(theatre, name, row):
    """Return what is not to change of a tunnel that runs."""
    tunnel, children = await theatre.tunnel(name), await theatre.children()
    [connection] = [c for c in theatre.azure.hybrid_connections().values() if f".{name}." in c.name]
    kept = [children[f"Pod {name}-forwarder"]["metadata"]["uid"], connection.created_at]
    if row.keeps_streams:
        [ready] = [c for c in tunnel["status"]["conditions"] if c["type"] == "Ready"]
        kept += [ready["lastTransitionTime"], tunnel["status"]["device"]]
        kept.append(children[f"Secret {name}-forwarder"]["metadata"]["resourceVersion"])
    return kept


async def are_open(theatre, names):
    found = [await theatre.tunnel(name) for name in names]
    return all(map(is_open, found))


def is_open(tunnel):
    conditions = {c["type"]: c for c in ((tunnel or {}).get("status") or {}).get("conditions", ())}
    ready = conditions.get("Ready", {})
    is_current = ready.get("observedGeneration") == (tunnel or {}).get("metadata", {}).get(
        "generation"
    )
    return is_current and ready.get("status") == "True"


async def is_as_edited(theatre):
    """Whether there is all that is wanted, in the cluster and in Azure, and nothing besides."""
    tunnels = {name: await theatre.tunnel(name) for name in (*AFTER, "goes")}
    if tunnels.pop("goes") is not None or not all(map(is_open, tunnels.values())):
        return False
    children = await theatre.children()
    wanted = {
        f"{kind} {name}{end}"
        for name in AFTER
        for kind, end in (("Secret", "-forwarder"), ("Pod", "-forwarder"), ("Service", ""))
    }
    connections = theatre.azure.hybrid_connections()
    names = {t["status"]["hybridConnection"]["name"] for t in tunnels.values()}
    if set(children) != wanted or set(connections) != names:
        return False
    is_listened = all(c.listeners == 1 and len(c.rules) == 2 for c in connections.values())
    is_leased = all(
        expiry(children[f"Secret {name}-forwarder"]) == t["status"]["expiresAt"]
        for name, t in tunnels.items()
    )
    status = tunnels["changes"]["status"]
    return is_listened and is_leased and lifetime(status) == 3600


def expiry(secret):
    return json.loads(base64.b64decode(secret["data"]["settings.json"]))["expiresAt"]


def lifetime(status):
    opened, expires = (datetime.fromisoformat(status[key]) for key in ("openedAt", "expiresAt"))
    return (expires - opened).total_seconds()
