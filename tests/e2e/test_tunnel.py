"""The whole way, on real parts: from `kubectl apply` to the device and back, and down again."""

import json
import sys
import time
from datetime import UTC, datetime

from support.held_stream import held_stream
from support.kubectl import condition

WORDS = "raw TCP, and then the end of it"


def test_from_apply_to_page_and_back_to_nothing(world):
    world.start_device("e2e-1")
    world.apply("e2e-1")
    world.until_ready("e2e-1")

    world.until(lambda: world.page_through_ingress("e2e-1")[0] == 200, within=20)
    assert "e2e-1" in world.page_through_ingress("e2e-1")[1]
    page, heard = world.through_service("e2e-1", WORDS)
    assert "e2e-1" in page
    # The client had closed its side before the answer came: half-close, all the way and back.
    assert heard == WORDS

    assert world.children("e2e-1") == ["Ingress", "Pod", "Secret", "Service"]
    assert list(world.hybrid_connections().values()) == [1]
    world.kubectl("delete", "tunnel", "e2e-1", "-n", world.namespace, "--timeout=60s")
    world.until(lambda: world.children("e2e-1") == [])
    assert world.hybrid_connections() == {}
    assert world.method_calls("e2e-1")[-1] == "DeleteConnection"
    # Envoy listens no longer when it has no route at all.
    world.until(lambda: world.page_through_ingress("e2e-1")[0] in (0, 404), within=20)


def test_an_offline_device_is_waited_for(world):
    world.apply("e2e-2")
    world.until_reason("e2e-2", "DeviceOffline")
    ready = condition(world.tunnel("e2e-2"))
    assert ready["status"] == "False"
    assert "not connected to the IoT Hub" in ready["message"]
    world.start_device("e2e-2")
    world.until_ready("e2e-2")
    world.until(lambda: world.page_through_ingress("e2e-2")[0] == 200, within=20)


def test_killed_between_hybrid_connection_and_pod_it_ends_the_same_and_does_nothing_twice(world):
    world.start_device("e2e-3")
    calls = len(world.method_calls("e2e-3"))
    refuse_pods(world)
    world.apply("e2e-3")
    world.until(lambda: "refused-for-the-test" in str(world.tunnel("e2e-3").get("status")))
    [before] = world.hybrid_connections()
    assert "Pod" not in world.children("e2e-3")
    # It does not try again for minutes: it is killed where it stands.
    allow_pods(world)
    world.kill_leader()
    world.until_ready("e2e-3")
    assert list(world.hybrid_connections().items()) == [(before, 1)]
    assert world.method_calls("e2e-3")[calls:] == ["CreateConnection"]
    _, heard = world.through_service("e2e-3", WORDS)
    assert heard == WORDS


def test_deleted_while_the_operator_is_down_everything_is_removed(world):
    world.start_device("e2e-1")
    world.apply("e2e-1")
    world.until_ready("e2e-1")
    with world.without_operator():
        # A tunnel that runs does not notice.
        assert world.page_through_ingress("e2e-1")[0] == 200
        world.kubectl("delete", "tunnel", "e2e-1", "-n", world.namespace, "--wait=false")
        assert world.tunnel("e2e-1")["metadata"]["deletionTimestamp"]
    world.until(lambda: world.tunnel("e2e-1") is None)
    world.until(lambda: world.children("e2e-1") == [])
    assert world.hybrid_connections() == {}


def test_ends_in_time_with_the_operator_dead(world):
    """Forwarder and device each keep the deadline by themselves."""
    world.start_device("e2e-2")
    world.apply("e2e-2", ttl="30s")
    world.until_ready("e2e-2")
    with world.without_operator():
        world.until(lambda: pod_phase(world, "e2e-2") == "Succeeded", within=60)
        assert list(world.hybrid_connections().values()) == [0]
    world.until_reason("e2e-2", "Expired")
    world.until(lambda: world.children("e2e-2") == [])
    assert world.hybrid_connections() == {}
    assert world.tunnel("e2e-2")["status"]["session"]["reason"] == "Expired"


def test_extending_a_tunnel_drops_no_stream(world):
    """One stream is held from before the change until after what was the tunnel's end before it."""
    world.start_device("e2e-3")
    world.apply("e2e-3", ttl="60s")
    world.until_ready("e2e-3")
    where = ("-n", world.namespace)
    pod = world.kubectl.get("pod", "e2e-3-forwarder", *where)
    before = world.tunnel("e2e-3")["status"]["expiresAt"]
    address = f"e2e-3.{world.namespace}.svc:7"
    with held_stream(
        world.kubectl, world.namespace, world.stage.forwarder_image, address
    ) as stream:
        world.until(lambda: stream.exchanges() >= 3, within=20)
        world.apply("e2e-3", ttl="9m")
        world.until(lambda: world.tunnel("e2e-3")["status"]["expiresAt"] > before)
        settings = ("get", "--raw", forwarder_status(world, "e2e-3"))
        expires_at = world.tunnel("e2e-3")["status"]["expiresAt"]
        world.until(
            lambda: json.loads(world.kubectl(*settings))["expiresAt"] == expires_at, within=30
        )
        # Then the first end passes, of which neither forwarder nor device may make anything.
        time.sleep(max(0.0, seconds_until(before)) + 2)
        told = stream.exchanges()
        world.until(lambda: stream.exchanges() >= told + 5, within=20)
    after = world.kubectl.get("pod", "e2e-3-forwarder", *where)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert condition(world.tunnel("e2e-3"))["status"] == "True"


def seconds_until(time_of_the_api):
    return (datetime.fromisoformat(time_of_the_api) - datetime.now(UTC)).total_seconds()


def test_an_idle_tunnel_is_closed_with_its_totals_and_the_same_manifest_opens_it_no_more(world):
    world.start_device("e2e-1")
    world.apply("e2e-1", idleTimeout="20s")
    world.until_ready("e2e-1")
    page, heard = world.through_service("e2e-1", WORDS)
    assert heard == WORDS
    world.until_reason("e2e-1", "Idle")
    session = world.until(lambda: with_totals(world.tunnel("e2e-1")), within=20)
    assert session["reason"] == "Idle"
    # The page and the raw words; the client has tried the page's port before.
    assert session["connections"] >= 2
    assert min(session["bytesIn"], session["bytesOut"]) >= len(WORDS)
    assert session["bytesIn"] + session["bytesOut"] >= 2 * len(WORDS) + len(page)
    world.until(lambda: world.children("e2e-1") == [])
    assert world.hybrid_connections() == {}

    world.apply("e2e-1", idleTimeout="20s")
    # Who comes later has been seen to: so has this.
    world.apply("e2e-2", suspend=True)
    world.until_reason("e2e-2", "Suspended")
    assert condition(world.tunnel("e2e-1"))["reason"] == "Idle"
    assert world.hybrid_connections() == {}


def with_totals(tunnel):
    session = tunnel["status"].get("session", {})
    return session if "connections" in session else None


def test_all_streams_may_share_one_socket(world):
    body = world.stage.class_body
    name = f"multiplex-{world.namespace}"
    spec = body["spec"] | {"forwarder": {"multiplex": True}}
    world.kubectl.apply(body | {"metadata": {"name": name}, "spec": spec})
    world.start_device("e2e-2")
    world.apply("e2e-2", tunnelClassName=name)
    world.until_ready("e2e-2")
    page, heard = world.through_service("e2e-2", WORDS)
    assert "e2e-2" in page
    assert heard == WORDS
    world.kubectl("delete", "tunnel", "e2e-2", "-n", world.namespace, "--timeout=60s")
    world.kubectl("delete", "tunnelclass", name)


def test_how_long_it_takes(world, capsys):
    """Prints the time from apply to Ready beside that of a bare Pod of the same image, both warm."""
    world.start_device("e2e-1")
    tunnel_times, pod_times = [], []
    for round_number in range(3):
        pod_times.append(bare_pod(world, f"bare-{round_number}"))
        began = time.monotonic()
        world.apply("e2e-1")
        world.until_ready("e2e-1")
        tunnel_times.append(time.monotonic() - began)
        world.kubectl("delete", "tunnel", "e2e-1", "-n", world.namespace, "--timeout=60s")
        world.until(lambda: world.children("e2e-1") == [])
    with capsys.disabled():
        shown = [" ".join(f"{t:.2f}" for t in times) for times in (tunnel_times, pod_times)]
        sys.stdout.write(f"\nfrom apply to Ready, in s: Tunnel {shown[0]}; bare Pod {shown[1]}\n")
    assert min(tunnel_times) < 15


def bare_pod(world, name):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": world.namespace},
        "spec": {
            "containers": [
                {
                    "name": "bare",
                    "image": world.stage.forwarder_image,
                    "command": ["/opt/venv/bin/python", "-c", "import signal; signal.pause()"],
                }
            ],
            "terminationGracePeriodSeconds": 0,
        },
    }
    began = time.monotonic()
    world.kubectl.apply(pod)
    ready = ("--for=condition=Ready", f"pod/{name}", "-n", world.namespace, "--timeout=60s")
    world.kubectl("wait", *ready)
    took = time.monotonic() - began
    world.kubectl("delete", "pod", name, "-n", world.namespace, "--timeout=60s")
    return took


def pod_phase(world, name):
    pod = world.kubectl.get("pod", f"{name}-forwarder", "-n", world.namespace)
    return pod["status"]["phase"] if pod else None


def forwarder_status(world, name):
    return f"/api/v1/namespaces/{world.namespace}/pods/{name}-forwarder:10000/proxy/status"


def refuse_pods(world):
    """Hold the operator between the hybrid connection and the Pod."""
    here = {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
    }
    api = "admissionregistration.k8s.io/v1"
    metadata = {"name": world.namespace}
    policy = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": metadata,
        "spec": {
            "matchConstraints": {"namespaceSelector": here, "resourceRules": [pods]},
            "validations": [{"expression": "false", "message": "refused-for-the-test"}],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": metadata,
        "spec": {"policyName": world.namespace, "validationActions": ["Deny"]},
    }
    world.kubectl.apply(policy)
    world.kubectl.apply(binding)
    world.until(lambda: are_pods_refused(world), within=30)


def allow_pods(world):
    world.kubectl("delete", "validatingadmissionpolicybinding", world.namespace)
    world.until(lambda: not are_pods_refused(world), within=30)


def are_pods_refused(world):
    """Ask the API server, which takes a moment to heed a changed policy."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": world.namespace},
        "spec": {"containers": [{"name": "probe", "image": "none"}]},
    }
    try:
        world.kubectl.apply(pod, "--dry-run=server")
    except AssertionError as error:
        return "refused-for-the-test" in str(error)
    return False
