"""Routes of the Gateway API, on a real API server; the Gateway's controller is played by the test."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass

import pytest

from support.kubectl import Kubectl, KubectlError, eventually
from tunnel_dev import toolchain

GATEWAY = {"name": "edge", "namespace": "gateways", "sectionName": "all"}
WISH = {
    "http": {"host": "mri-7.tunnels.test"},
    "tls": {"portName": "ssh", "host": "s.test"},
    "tcp": {},
}
ROUTES = {"httproute": "mri-7-http", "tlsroute": "mri-7-tls", "tcproute": "mri-7-tcp"}
DEFINITIONS = toolchain.ensure((toolchain.GATEWAY_CRDS,)) / toolchain.GATEWAY_CRDS

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def class_options():
    return {"exposure": {"gateway": GATEWAY}}


@pytest.fixture
def operator_module():
    """Return the operator that looks for routes each second, not four times a minute."""
    return "support.impatient_operator"


@dataclass(frozen=True)
class GatewayApi:
    """The resource definitions."""

    kubectl: Kubectl

    def install(self):
        self.kubectl("apply", "--server-side", "-f", str(DEFINITIONS))
        self.kubectl("wait", "--for=condition=Established", "-f", str(DEFINITIONS))

    def remove(self):
        """Remove them, and nudge the API server while one stays.

        It deletes the routes of a definition first, looks again after a minute if one was made in the same
        moment, and after ever longer waits if its storage of them was not up yet ("storage is
        (re)initializing"); a definition that is written to is looked at anew.
        """
        self.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", str(DEFINITIONS))
        deadline = time.monotonic() + 120
        while left := self.left():
            assert time.monotonic() < deadline, left
            with suppress(KubectlError):  # They go one by one, so one may be gone by now.
                self.kubectl("annotate", "--overwrite", *left, f"look={time.monotonic()}")
            with suppress(KubectlError):  # Not yet.
                self.kubectl("wait", "--for=delete", "--timeout=5s", *left)

    def left(self):
        """Return which are there."""
        listed = self.kubectl("get", "crd", "-o", "name").split()
        return [name for name in listed if name.endswith(".gateway.networking.k8s.io")]


@pytest.fixture(autouse=True)
def gateway_api(kubectl):
    """Begin without, and take away what a test installs once its operator has ended."""
    api = GatewayApi(kubectl)
    yield api
    api.remove()


def say(stage, kind, status="True", reason="Fine"):
    """Write what the Gateway's controller would."""
    route = stage.kubectl.get(kind, ROUTES[kind], "-n", stage.namespace)
    conditions = [
        {
            "type": name,
            "status": status,
            "reason": reason,
            "message": "",
            "lastTransitionTime": "2026-03-01T12:00:00Z",
            "observedGeneration": route["metadata"]["generation"],
        }
        for name in ("Accepted", "ResolvedRefs")
    ]
    [parent] = route["spec"]["parentRefs"]
    entry = {
        "parentRef": parent,
        "controllerName": "gateways.test/controller",
        "conditions": conditions,
    }
    stage.kubectl(
        *(
            "patch",
            kind,
            ROUTES[kind],
            "-n",
            stage.namespace,
            "--subresource=status",
            "--type=merge",
        ),
        *("-p", json.dumps({"status": {"parents": [entry]}})),
    )


def routes(stage):
    found = [stage.kubectl.get(*route, "-n", stage.namespace) for route in ROUTES.items()]
    return [route["spec"] for route in found if route is not None]


async def test_routes_are_made_followed_put_back_and_removed(stage, gateway_api):
    where = ("-n", stage.namespace)
    gateway_api.install()
    await stage.device.start()
    await stage.operator.start()
    stage.apply(expose={"gateway": WISH})
    await stage.until_ready_is("False", "WaitingForGateway")
    http, tls, tcp = made = routes(stage)
    assert (http["hostnames"], tls["hostnames"]) == (["mri-7.tunnels.test"], ["s.test"])
    assert {spec["parentRefs"][0]["sectionName"] for spec in made} == {"all"}
    assert [spec["rules"][0]["backendRefs"][0]["port"] for spec in made] == [80, 22, 22]
    for kind in ROUTES:
        say(stage, kind)
    await stage.until_ready_is("True", "Open")
    status = stage.tunnel()["status"]
    assert status["url"] == "http://mri-7.tunnels.test"
    assert [endpoint.get("host") for endpoint in status["endpoints"]] == [None, "s.test"]
    say(stage, "tcproute", "False", "NoMatchingParent")
    await stage.until_ready_is("False", "RouteNotAccepted")
    edit = {"spec": {"hostnames": ["elsewhere.test"]}}
    stage.kubectl(
        "patch", "httproute", "mri-7-http", *where, "--type=merge", "-p", json.dumps(edit)
    )
    stage.kubectl("delete", "tcproute", "mri-7-tcp", *where)
    await eventually(lambda: routes(stage) == [http, tls, tcp], explain=lambda: str(routes(stage)))
    stage.apply()
    await stage.until_ready_is("True", "Open")
    await eventually(lambda: not routes(stage))
    stage.apply(expose={"gateway": WISH})
    await eventually(lambda: len(routes(stage)) == 3)
    stage.kubectl("delete", "tunnel", "mri-7", *where, "--wait=false")
    await stage.until_gone()
    assert routes(stage) == []


async def test_routes_of_somebody_else_are_left_alone(stage, gateway_api):
    gateway_api.install()
    await stage.device.start()
    await stage.operator.start()
    for kind, name in ROUTES.items():
        definition = stage.kubectl.get("crd", f"{kind}s.gateway.networking.k8s.io")["spec"]
        served = next(v["name"] for v in definition["versions"] if v["served"])
        route = {
            "apiVersion": f"{definition['group']}/{served}",
            "kind": definition["names"]["kind"],
            "metadata": {"name": name, "namespace": stage.namespace},
            "spec": {"rules": [{"backendRefs": [{"name": "own", "port": 80}]}]},
        }
        stage.kubectl.apply(route)
        wish = {kind.removesuffix("route"): WISH[kind.removesuffix("route")]}
        stage.apply(expose={"gateway": wish})
        await stage.until_ready_is("False", "NameTaken")
        left = stage.kubectl.get(kind, name, "-n", stage.namespace)
        assert "parentRefs" not in left["spec"]
        assert "ownerReferences" not in left["metadata"]
        stage.apply()
        await stage.until_ready_is("True", "Open")


async def test_without_the_gateway_api_all_else_works_and_routes_come_and_go_with_it(
    stage, gateway_api
):
    await stage.device.start()
    await stage.operator.start()
    stage.apply(expose={"gateway": WISH})
    await stage.until_ready_is("False", "GatewayAPINotInstalled")
    assert "kind HTTPRoute" in str(stage.tunnel()["status"]["conditions"])
    assert stage.kubectl.get("service", "mri-7", "-n", stage.namespace)
    gateway_api.install()
    await stage.until_ready_is("False", "WaitingForGateway", within=60)
    assert stage.operator.is_running
    for kind in ROUTES:
        say(stage, kind)
    await stage.until_ready_is("True", "Open")
    assert [call.method for call in stage.azure.method_calls] == ["CreateConnection"]
    gateway_api.remove()
    await stage.until_ready_is("False", "GatewayAPINotInstalled", within=60)
    assert stage.operator.is_running
