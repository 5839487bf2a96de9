"""Access rules and limits at admission, and again by the operator: the same decisions in the same words."""

import json
import re

import pytest

from support.access_cases import NAMESPACES, ONE_PORT, TWO_PORTS, Case, random_cases
from support.kubectl import KubectlError, condition, eventually
from support.tunnels import GATEWAY, tunnel_body
from tunnel_dev import apiserver

DENIED = re.compile(
    r'"(case-\d+)" is (?:forbidden|invalid): .*?denied request: (.*)$', re.MULTILINE
)


@pytest.fixture(scope="module")
def namespaces(kubectl):
    for name, labels in NAMESPACES.items():
        metadata = {"name": name, "labels": labels}
        kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return list(NAMESPACES)


@pytest.fixture
def classes(kubectl):
    """Make classes, and take them away after the test: the policy is evaluated for each that there is."""
    made = set()

    def apply(*cases):
        bodies = {case.class_name: case.klass for case in cases}
        made.update(bodies)
        items = {"apiVersion": "v1", "kind": "List", "items": list(bodies.values())}
        # Not client-side: the largest class does not fit into the annotation of that.
        kubectl.apply(items, "--server-side")

    yield apply
    # One after the other would be waited for.
    kubectl("delete", "tunnelclass", *made, "--wait=false")


def denials(kubectl, cases):
    """Return what the API server says to each of the cases, asked all at once."""
    items = [case.tunnel(f"case-{number}") for number, case in enumerate(cases)]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    try:
        kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
    except KubectlError as error:
        output = str(error).strip()
    else:
        output = ""
    said = dict(DENIED.findall(output))
    assert len(said) == len(output.splitlines()), output
    return [said.get(f"case-{number}") for number in range(len(cases))]


async def agree(kubectl, cases):
    """See that the policy says what the operator would; it takes a moment to heed new classes."""
    expected = [case.refusal() for case in cases]

    def differences():
        said = denials(kubectl, cases)
        return [
            (case, of_policy, of_operator)
            for case, of_policy, of_operator in zip(cases, said, expected, strict=True)
            if of_policy != of_operator
        ]

    await eventually(lambda: not differences(), explain=lambda: str(differences()[:3]))
    return expected


@pytest.mark.usefixtures("namespaces")
async def test_policy_and_operator_decide_alike_and_say_the_same(kubectl, classes):
    cases = list(random_cases(1, classes=20, tunnels=10))
    classes(*cases)
    expected = await agree(kubectl, cases)
    assert 30 < sum(message is None for message in expected) < len(cases) - 60


@pytest.mark.usefixtures("namespaces")
async def test_the_largest_rules_that_the_schema_allows_are_within_what_cel_may_cost(
    kubectl, classes
):
    key = "k" * 63
    rule = {
        "namespaces": {
            "matchExpressions": [
                {
                    "key": f"{key[:60]}{n}",
                    "operator": "NotIn",
                    "values": [f"{key[:60]}{i}" for i in range(16)],
                }
                for n in range(16)
            ],
        },
        "devices": [f"{'(a?.$+)*' * 15}{n:02}" for n in range(32)],
        "ports": list(range(1000, 1064)),
        "maxTTL": "1h",
    }
    ports = [{"name": f"p{n}", "port": n, "target": f"localhost:{1063 - n}"} for n in range(1, 17)]
    exposure = {
        "gateway": GATEWAY,
        "allowedServiceTypes": ["NodePort", "LoadBalancer"],
        "allowedServiceAnnotations": [f"{'a*.' * 42}{n:02}" for n in range(15)] + ["*" + "a*" * 63],
        "allowedDomains": [f"{n:02}.{'a.' * 124}" + "a" for n in range(15)] + ["test"],
    }
    big = {"access": [rule] * 15 + [rule | {"devices": ["*" + "a*" * 63]}], "exposure": exposure}
    annotations = {f"{'a' * 250}/{'a' * 61}{n:02}a": "v" for n in range(32)}
    host = f"{'a.' * 124}test"
    wish = {
        "service": {"type": "LoadBalancer", "annotations": annotations},
        "gateway": {"tls": {"host": host, "portName": "p1"}},
    }
    allowed = {"device": {"id": "a" * 128}, "ports": ports, "ttl": "1h", "expose": wish}
    cases = [
        Case("access-big", big, "access-imaging", allowed),
        Case("access-big", big, "access-imaging", allowed | {"ttl": "2h"}),
    ]
    classes(*cases)
    expected = await agree(kubectl, cases)
    assert [message is None for message in expected] == [True, False]
    # Too much for one message: then it is said without the list.
    other = Case("access-big", big, "access-imaging", allowed | {"device": {"id": "b" * 128}})
    [said] = denials(kubectl, [other])
    assert said == "spec.access of the TunnelClass does not allow this device from this namespace."


@pytest.mark.usefixtures("namespaces")
async def test_a_tunnel_without_a_class_is_judged_by_the_default_one(kubectl, classes):
    case = Case("access-default", {"access": []}, "access-plain", {"tunnelClassName": None})
    classes(case)
    assert denials(kubectl, [case]) == [None]
    name = "tunnelclass.tunnels.dev/is-default-class"
    kubectl("annotate", "tunnelclass", "access-default", f"{name}=true")
    sentence = (
        "TunnelClass 'access-default' has no rule in spec.access for namespace 'access-plain'."
    )
    await eventually(lambda: denials(kubectl, [case]) == [sentence])
    with_class = Case("access-absent", {}, "access-plain", {})
    assert denials(kubectl, [with_class]) == [None]


@pytest.mark.usefixtures("namespaces")
async def test_a_tunnel_that_runs_is_judged_by_the_class_that_it_was_opened_with(kubectl, classes):
    strict = Case("access-taken", STRICT, "access-plain", {})
    open_to_all = Case("access-new", {}, "access-plain", {})
    classes(strict, open_to_all)
    name = "tunnelclass.tunnels.dev/is-default-class"
    kubectl("annotate", "tunnelclass", "access-new", f"{name}=true")
    await eventually(lambda: denials(kubectl, [strict])[0] is not None)
    body = Case("", {}, "access-plain", {"tunnelClassName": None}).tunnel("case-1")
    body["metadata"]["finalizers"] = ["tunnels.dev/cleanup"]
    kubectl.apply(body)
    where = ("case-1", "-n", "access-plain")
    status = '{"status": {"tunnelClassName": "access-taken"}}'
    kubectl("patch", "tunnel", *where, "--type=merge", "--subresource=status", "-p", status)
    change = ("patch", "tunnel", *where, "--type=merge", "-p", '{"spec": {"renewals": 1}}')
    with pytest.raises(KubectlError, match="'access-taken' does not allow device 'mri-7'"):
        kubectl(*change)
    kubectl("patch", "tunnel", *where, "--type=merge", "-p", patch(finalizers=None))
    kubectl(*change)
    kubectl("delete", "tunnel", *where)


STRICT = {"access": [{"devices": ["ct-*"]}]}


async def test_what_was_made_before_can_still_be_labelled_suspended_and_let_go(
    kubectl, classes, namespaces
):
    namespace = namespaces[0]
    case = Case("access-late", {}, namespace, {"ports": ONE_PORT})
    classes(case)
    kubectl.apply(case.tunnel("case-1"))
    where = ("case-1", "-n", namespace)
    kubectl("patch", "tunnel", *where, "--type=merge", "-p", patch(finalizers=["test/held"]))
    classes(Case("access-late", STRICT, namespace, {}))
    probe = Case("access-late", STRICT, namespace, {"ports": ONE_PORT})
    await eventually(lambda: denials(kubectl, [probe])[0] is not None)

    kubectl("label", "tunnel", *where, "a=b")
    kubectl.apply(case.tunnel("case-1"))
    with pytest.raises(KubectlError, match="does not allow device 'mri-7'"):
        kubectl.apply(Case("access-late", {}, namespace, {"ports": TWO_PORTS}).tunnel("case-1"))
    status = '{"status": {"url": "http://x.test"}}'
    kubectl("patch", "tunnel", *where, "--type=merge", "--subresource=status", "-p", status)
    kubectl("patch", "tunnel", *where, "--type=merge", "-p", '{"spec": {"suspend": true}}')
    with pytest.raises(KubectlError, match="does not allow device 'mri-7'"):
        kubectl("patch", "tunnel", *where, "--type=merge", "-p", '{"spec": {"suspend": false}}')
    kubectl("delete", "tunnel", *where, "--wait=false")
    kubectl("patch", "tunnel", *where, "--type=merge", "-p", '{"spec": {"renewals": 7}}')
    kubectl("patch", "tunnel", *where, "--type=merge", "-p", patch(finalizers=None))
    assert kubectl.get("tunnel", *where) is None


def patch(**metadata):
    return json.dumps({"metadata": metadata})


@pytest.fixture
def is_policy_away(kubectl):
    """Take the policy's binding away, so that the operator alone is left to refuse."""
    text = kubectl("get", "validatingadmissionpolicybinding", "tunnel-access", "-o", "json")
    binding = json.loads(text)
    binding["metadata"] = {
        key: binding["metadata"][key] for key in ("name", "labels") if key in binding["metadata"]
    }
    kubectl("delete", "validatingadmissionpolicybinding", "tunnel-access")
    yield
    kubectl.apply(binding)


async def test_who_may_make_tunnels_only_can_not_publish_a_device_where_the_class_says_nothing_of_it(
    stage, tunnel_class
):
    """The policy refuses it; and what came before the policy, or before the class was so, is closed."""
    tunnel_class["spec"]["exposure"] = {"allowedServiceTypes": ["NodePort"]}
    stage.kubectl.apply(tunnel_class)
    await stage.device.start()
    await stage.operator.start()
    body = tunnel_body(
        tunnelClassName=stage.class_name, expose={"service": {"type": "LoadBalancer"}}
    )
    body["metadata"] = {"name": "mri-7", "namespace": stage.namespace}
    sentence = f"'{stage.class_name}' does not allow a Service of type LoadBalancer"
    await eventually(lambda: not is_accepted(stage.kubectl, body, "--dry-run=server"))
    with pytest.raises(KubectlError, match=sentence):
        stage.kubectl.apply(body)

    stage.apply(expose={"service": {"type": "NodePort"}})
    await stage.until_ready_is("True", "Open")
    tunnel_class["spec"]["exposure"] = {}
    stage.kubectl.apply(tunnel_class)
    await stage.until_ready_is("False", "NotAllowed")
    await eventually(lambda: not stage.children())
    assert not stage.azure.hybrid_connections()


async def test_the_operator_closes_what_a_stricter_rule_does_not_allow_and_opens_it_again(
    stage, tunnel_class
):
    await stage.open()
    ends = stage.tunnel()["status"]["expiresAt"]

    tunnel_class["spec"]["access"] = [{"namespaces": {"matchLabels": {"team": "imaging"}}}]
    stage.kubectl.apply(tunnel_class)
    await stage.until_ready_is("False", "NotAllowed")
    await stage.azure.until(lambda: not stage.azure.hybrid_connections(), timeout=10)
    await eventually(lambda: not stage.children())
    stalled = next(c for c in stage.tunnel()["status"]["conditions"] if c["type"] == "Stalled")
    name = stage.namespace
    assert stalled["message"].startswith(
        f"TunnelClass '{name}' has no rule in spec.access for namespace '{name}'."
    )

    # The namespace's labels are watched.
    stage.kubectl("label", "namespace", stage.namespace, "team=imaging")
    await stage.until_ready_is("True", "Open")
    assert stage.tunnel()["status"]["expiresAt"] == ends


@pytest.mark.usefixtures("is_policy_away")
async def test_what_the_policy_has_not_seen_the_operator_refuses(stage, tunnel_class):
    tunnel_class["spec"]["access"] = [{"devices": ["ct-*"]}]
    stage.kubectl.apply(tunnel_class)
    await stage.device.start()
    await stage.operator.start()
    body = tunnel_body(tunnelClassName=stage.class_name)
    body["metadata"] = {"name": "mri-7", "namespace": stage.namespace}
    await eventually(lambda: is_accepted(stage.kubectl, body))
    await stage.until_ready_is("False", "NotAllowed")
    assert not stage.azure.hybrid_connections()
    assert not stage.azure.method_calls


def is_accepted(kubectl, body, *options):
    try:
        kubectl.apply(body, *options)
    except KubectlError:
        return False
    return True


async def test_a_tunnel_too_many_waits_until_another_one_is_closed(stage, tunnel_class):
    tunnel_class["spec"]["limits"] = {"maxTunnelsPerNamespace": 1}
    stage.kubectl.apply(tunnel_class)
    await stage.open()
    second = tunnel_body("second", tunnelClassName=stage.class_name, device={"id": "mri-7"})
    second["metadata"] = {"name": "second", "namespace": stage.namespace}
    stage.kubectl.apply(second)
    where = ("tunnel", "second", "-n", stage.namespace)

    def reason():
        return condition(stage.kubectl.get(*where)).get("reason")

    await eventually(lambda: reason() == "TooManyTunnels")
    assert len(stage.azure.hybrid_connections()) == 1
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await eventually(lambda: reason() == "Open")
    stage.kubectl("delete", *where, "--wait=false")
    await eventually(lambda: stage.kubectl.get(*where) is None)


@pytest.mark.parametrize("slip", [None, "object.spec.devise.id == ''"], ids=["as it is", "a slip"])
async def test_the_policys_expressions_fit_the_schemas(kubectl, server, namespace, slip):
    """A wrong field name would otherwise be an error at each Tunnel, which lets it pass.

    Kubernetes checks validations only, so a copy of the policy has all other expressions among them.
    """
    policy = kubectl.get("validatingadmissionpolicy", "tunnel-access")
    spec = policy["spec"]
    others = [part["expression"] for part in (*spec["variables"], *spec["matchConditions"])]
    others += [part["messageExpression"] for part in spec["validations"]]
    others += [] if slip is None else [slip]
    spec["validations"] += [{"expression": f"size([{text}]) == 1"} for text in others]
    policy.pop("status", None)
    kubectl.apply({**policy, "metadata": {"name": namespace}})
    with apiserver.controllers(server, "validatingadmissionpolicy-status-controller"):
        status = await eventually(
            lambda: kubectl.get("validatingadmissionpolicy", namespace).get("status")
        )
    warnings = status["typeChecking"].get("expressionWarnings", [])
    kubectl("delete", "validatingadmissionpolicy", namespace)
    assert len(warnings) == (0 if slip is None else 1), warnings
