from datetime import timedelta

import pytest

from support.operator_world import ROUTES
from support.tunnels import GATEWAY, IMAGE, NOON, a_class, a_tunnel
from tunnel_operator.core.children import Children
from tunnel_operator.core.exposure import find_exposed, wanted_objects
from tunnel_operator.core.observed import Child, Kind, Observed
from tunnel_operator.core.terms import agree

CLASS = a_class(exposure={"gateway": GATEWAY, "domain": "tunnels.test"})
TUNNEL = a_tunnel(expose={"gateway": {"http": {}, "tcp": {}}})
TERMS = agree(TUNNEL, CLASS, default_image=IMAGE)


def condition(kind, status="True", generation=2, reason="Why", message=""):
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
    }


GOOD = [condition("Accepted"), condition("ResolvedRefs")]


def found(*conditions, served=ROUTES, parent=GATEWAY):
    """Judge a Service and two routes, of which the TCPRoute has these conditions."""
    wanted = wanted_objects(TUNNEL, TERMS, Observed(routes=served))
    children = {}
    for kind, body in wanted.items():
        said = list(conditions) if kind is Kind.TCP_ROUTE else GOOD
        status = {"parents": [{"parentRef": parent, "conditions": said}]}
        metadata = body["metadata"] | {"generation": 2}
        children[kind] = Child(body | {"metadata": metadata, "status": status})
    observed = Observed(routes=served, children=children)
    unapplied = Children(TUNNEL, TERMS, observed, NOON + timedelta(hours=1), NOON).unapplied
    return find_exposed(TUNNEL, TERMS, observed, unapplied)


def test_a_tunnel_is_exposed_once_the_gateways_controller_has_taken_all_routes():
    assert (found(*GOOD).status, found(*GOOD).reason) == ("True", "Exposed")


@pytest.mark.parametrize(
    "conditions",
    [
        [],
        [condition("Accepted")],
        [condition("Accepted", generation=1), condition("ResolvedRefs", generation=1)],
        [condition("Accepted", "False", generation=1), condition("ResolvedRefs")],
    ],
)
def test_what_was_not_said_of_the_newest_route_is_waited_for(conditions):
    finding = found(*conditions)
    assert (finding.status, finding.reason) == ("False", "WaitingForGateway")
    assert "'gateways/edge' has not said yet" in finding.message


def test_what_is_said_of_another_gateway_does_not_count():
    assert found(*GOOD, parent={"name": "other", "namespace": "gateways"}).status == "False"
    assert found(*GOOD, parent={"name": "edge"}).status == "False"


@pytest.mark.parametrize("kind", ["Accepted", "ResolvedRefs"])
def test_what_the_controller_says_against_a_route_is_passed_on(kind):
    said = condition(kind, "False", reason="NotAllowedByListeners", message="None fits.")
    finding = found(*[c for c in GOOD if c["type"] != kind], said)
    assert (finding.status, finding.reason) == ("False", "RouteNotAccepted")
    assert finding.message == (
        "Gateway 'gateways/edge' does not carry the TCPRoute: NotAllowedByListeners (None fits)."
    )


def test_a_kind_that_the_cluster_does_not_know_is_said_and_not_made():
    served = {Kind.HTTP_ROUTE: "gateway.networking.k8s.io/v1"}
    assert Kind.TCP_ROUTE not in wanted_objects(TUNNEL, TERMS, Observed(routes=served))
    finding = found(served=served)
    assert (finding.status, finding.reason) == ("False", "GatewayAPINotInstalled")
    assert "kind TCPRoute" in finding.message
