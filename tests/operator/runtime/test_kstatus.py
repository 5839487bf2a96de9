"""At every instant of any run, who waits by kstatus is told the truth."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from support.kstatus import KStatus, kstatus
from support.operator_world import OperatorWorld
from support.tunnel_machine import KEY, SETTINGS, TunnelMachine
from support.tunnels import GATEWAY, class_body
from tunnel_operator.api.tunnel_class import TunnelClass

CRD = yaml.safe_load((Path(__file__).parents[3] / "crds/tunnels.yaml").read_text())
[VERSION] = CRD["spec"]["versions"]
FRESH = VERSION["schema"]["openAPIV3Schema"]["properties"]["status"]["default"]

FOR_A_PERSON = {
    "ClassNotFound",
    "TTLTooLong",
    "NotAllowed",
    "NoHost",
    "NoGateway",
    "DeviceRefused",
}
"""Of the reasons that can come up in this world, those that waiting does not mend."""

AT_REST = {"Open", "Expired", "Idle", "Suspended"}


class WatchedWorld(OperatorWorld):
    """Looks at the Tunnel before every single call and write of the operator's."""

    def _step(self, name):
        self.look()
        super()._step(name)

    def look(self):
        body = self.cluster.tunnels.get(KEY)
        if body is not None:
            check(body)


def check(body):
    status, found = body.get("status") or {}, kstatus(body)
    conditions = {c["type"]: c for c in status["conditions"]}
    ready = conditions["Ready"]
    is_observed = status.get("observedGeneration") == body["metadata"]["generation"]
    assert len(conditions) == len(status["conditions"])
    assert not {"Reconciling", "Stalled"} <= conditions.keys()
    # Abnormal-true conditions are there only while they are true.
    assert {conditions[c]["status"] for c in conditions.keys() & {"Reconciling", "Stalled"}} <= {
        "True"
    }
    if "deletionTimestamp" in body["metadata"]:
        assert found is KStatus.TERMINATING
        return
    if ready["reason"] == "Pending" or not is_observed:
        assert found is KStatus.IN_PROGRESS
        return
    assert (found is KStatus.CURRENT) == (ready["status"] == "True")
    assert (found is KStatus.FAILED) == (ready["reason"] in FOR_A_PERSON)
    is_done = ready["reason"] in AT_REST and "Reconciling" not in conditions
    assert is_done or {"Reconciling", "Stalled"} & conditions.keys()
    assert {c["observedGeneration"] for c in conditions.values()} == {status["observedGeneration"]}


class Watching(TunnelMachine):
    make_world = WatchedWorld

    @precondition(lambda self: not self.exists)
    @rule()
    def create(self):
        body = self.make(ttl="10m")
        # As the API server does it.
        body["status"] = copy.deepcopy(FRESH)
        self.world.apply(body)
        assert kstatus(body) is KStatus.IN_PROGRESS

    @precondition(lambda self: self.exists)
    @rule(
        change=st.sampled_from(
            [
                {"ttl": "10m"},
                {"ttl": "2h"},
                {"ttl": "24h"},
                {"suspend": True},
                {"suspend": False},
                {"renewals": 1},
                {"renewals": 2},
                {"expose": {"ingress": {}}},
                {"expose": {}},
                {"expose": {"gateway": {"http": {"host": "a.test"}}}},
                {"ports": [{"name": "ssh", "port": 22}, {"name": "db", "port": 5432}]},
                {"ports": [{"name": "web", "port": 80, "protocol": "HTTP"}]},
            ]
        )
    )
    def edit(self, change):
        # The CRD lets no Ingress through without a port for it.
        wish = self.spec | change
        is_web = "ports" not in wish or wish["ports"][0]["name"] == "web"
        if is_web or not wish.get("expose"):
            self.change(change)

    @rule()
    def operate(self):
        self.run(self.world.reconcile(KEY))

    @rule(allowed=st.sampled_from([None, {"web"}]))
    def device_allows(self, allowed):
        self.world.azure.allowed = allowed

    @rule(refused=st.sampled_from([{}, {"Accepted": "NoMatchingParent"}, {"ResolvedRefs": "Why"}]))
    def gateway_answers(self, refused):
        self.world.run_gateway(**refused)

    @rule(has_gateway=st.booleans())
    def class_changes(self, has_gateway):
        spec = {"exposure": {"gateway": GATEWAY}} if has_gateway else {}
        body = class_body(**spec)
        body["metadata"]["generation"] = self.classes[0].metadata.generation + 1
        self.classes = [TunnelClass.from_dict(body)]
        if self.world.classes:
            self.class_comes_and_goes(is_there=True)

    @invariant()
    def it_is_true_now(self):
        self.world.look()


Watching.TestCase.settings = SETTINGS
TestWatching = Watching.TestCase


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, KStatus.CURRENT),
        (FRESH, KStatus.IN_PROGRESS),
        ({"observedGeneration": 1, "conditions": [("Ready", "True")]}, KStatus.IN_PROGRESS),
        ({"observedGeneration": 2, "conditions": [("Ready", "True")]}, KStatus.CURRENT),
        ({"conditions": [("Ready", "False")]}, KStatus.IN_PROGRESS),
        ({"conditions": [("Ready", "True"), ("Reconciling", "True")]}, KStatus.IN_PROGRESS),
        ({"conditions": [("Ready", "True"), ("Stalled", "True")]}, KStatus.FAILED),
        ({"conditions": [("Ready", "True"), ("Stalled", "False")]}, KStatus.CURRENT),
    ],
)
def test_the_rules_are_those_of_kstatus(status, expected):
    conditions = [
        c if isinstance(c, dict) else {"type": c[0], "status": c[1]}
        for c in status.get("conditions", ())
    ]
    body = {"metadata": {"generation": 2}, "status": status | {"conditions": conditions}}
    assert kstatus(body) is expected
    body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert kstatus(body) is KStatus.TERMINATING
