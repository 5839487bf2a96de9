"""What Argo CD and Flux make of a Tunnel, by the expressions that we give them."""

from pathlib import Path

import cel
import pytest
import yaml
from lupa.lua51 import LuaRuntime

from support.operator_world import OperatorWorld
from support.tunnels import tunnel_body

ROOT = Path(__file__).parents[2]
# Lua 5.1 is what Argo CD has.
LUA = (ROOT / "manifests/argocd/health.lua").read_text()
[FLUX] = yaml.safe_load((ROOT / "manifests/flux/kustomization.yaml").read_text())["spec"][
    "healthCheckExprs"
]
CRD = yaml.safe_load((ROOT / "crds/tunnels.yaml").read_text())
[VERSION] = CRD["spec"]["versions"]
FRESH = VERSION["schema"]["openAPIV3Schema"]["properties"]["status"]["default"]


def condition(kind, status, reason):
    return {"type": kind, "status": status, "reason": reason, "message": f"It is {reason}."}


def tunnel(*conditions, observed=2, **metadata):
    status = {"conditions": [condition(*c) for c in conditions], "observedGeneration": observed}
    return tunnel_body(generation=2) | {"status": status, "metadata": {"generation": 2} | metadata}


NOT_READY = ("Ready", "False", "DeviceOffline")
CASES = {
    "nobody has looked at it yet": (
        tunnel_body() | {"status": FRESH},
        "Progressing",
        "InProgress",
    ),
    "it is open": (tunnel(("Ready", "True", "Open")), "Healthy", "Current"),
    "it is open, by an older spec": (
        tunnel(("Ready", "True", "Open"), observed=1),
        "Progressing",
        "InProgress",
    ),
    "the device is offline": (
        tunnel(NOT_READY, ("Reconciling", "True", "DeviceOffline")),
        "Progressing",
        "InProgress",
    ),
    "a person is needed": (
        tunnel(("Ready", "False", "DeviceRefused"), ("Stalled", "True", "DeviceRefused")),
        "Degraded",
        "Failed",
    ),
    "its end is being carried out": (
        tunnel(("Ready", "False", "Expired"), ("Reconciling", "True", "Closing")),
        "Progressing",
        "InProgress",
    ),
    "it has expired": (tunnel(("Ready", "False", "Expired")), "Suspended", "Current"),
    "it was idle": (tunnel(("Ready", "False", "Idle")), "Suspended", "Current"),
    "it is suspended": (tunnel(("Ready", "False", "Suspended")), "Suspended", "Current"),
}


def argo_health(body):
    """Run the script as Argo CD does: the object is the global `obj`, the answer what it returns."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False)
    lua.globals().obj = lua.table_from(body, recursive=True)
    answer = lua.execute(LUA)
    return answer.status, answer.message


def flux_status(body):
    """Evaluate in Flux' order; what none of them is true for is waited for."""
    for status, name in (
        ("InProgress", "inProgress"),
        ("Failed", "failed"),
        ("Current", "current"),
    ):
        if cel.evaluate(FLUX[name], body):
            return status
    return "InProgress"


@pytest.mark.parametrize(("body", "argo", "flux"), CASES.values(), ids=CASES)
def test_health(body, argo, flux):
    assert (argo_health(body)[0], flux_status(body)) == (argo, flux)


def test_argo_cd_shows_the_sentence_of_the_condition():
    body, _, _ = CASES["a person is needed"]
    assert argo_health(body)[1] == "It is DeviceRefused."


def test_a_tunnel_that_is_being_deleted_is_progressing_in_argo_cd():
    body = tunnel(("Ready", "True", "Open"), deletionTimestamp="2026-03-01T12:00:00Z")
    assert argo_health(body)[0] == "Progressing"


async def test_they_fit_what_the_operator_really_writes():
    world = OperatorWorld()
    world.azure.online.add("mri-7")
    key = world.apply(tunnel_body())
    await world.settle(key)
    body = world.cluster.tunnels[key]
    assert (argo_health(body)[0], flux_status(body)) == ("Healthy", "Current")
    world.apply(tunnel_body(suspend=True))
    await world.settle(key)
    body = world.cluster.tunnels[key]
    assert (argo_health(body)[0], flux_status(body)) == ("Suspended", "Current")
