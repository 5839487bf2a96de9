"""Objects that have the name of a Tunnel's child and are none, on a real API server."""

import json

import pytest


@pytest.mark.parametrize(
    ("kind", "name", "spec"),
    [
        ("Pod", "mri-7-forwarder", {"containers": [{"name": "c", "image": "registry.test/own:1"}]}),
        ("Service", "mri-7", {"ports": [{"port": 80}]}),
        ("NetworkPolicy", "mri-7-forwarder", {"podSelector": {}}),
        (
            "Ingress",
            "mri-7",
            {"defaultBackend": {"service": {"name": "own", "port": {"number": 80}}}},
        ),
    ],
)
async def test_what_somebody_else_has_made_is_left_alone(stage, kind, name, spec):
    group = "networking.k8s.io/v1" if kind in {"NetworkPolicy", "Ingress"} else "v1"
    metadata = {"name": name, "namespace": stage.namespace}
    stage.kubectl.apply({"apiVersion": group, "kind": kind, "metadata": metadata, "spec": spec})
    before = stage.kubectl.get(kind, name, "-n", stage.namespace)
    await stage.device.start()
    await stage.operator.start()
    wish = {"ingress": {"host": "mri-7.tunnels.test"}}
    stage.apply(expose=wish, allowedClients=[{"podSelector": {}}])
    await stage.until_ready_is("False", "NameTaken")
    after = stage.kubectl.get(kind, name, "-n", stage.namespace)
    assert {**after, "status": None} == {**before, "status": None}


async def test_what_an_earlier_namesake_left_is_waited_for(stage):
    where = ("-n", stage.namespace)
    await stage.open()
    await stage.operator.stop()
    no_finalizer = json.dumps({"metadata": {"finalizers": None}})
    stage.kubectl("patch", "tunnel", "mri-7", *where, "--type=merge", "-p", no_finalizer)
    stage.kubectl("delete", "tunnel", "mri-7", *where)
    stage.apply()
    await stage.operator.start()
    await stage.until_ready_is("False", "NameTaken")
    # No garbage collector runs here; the test plays it.
    for kind in ("secret/mri-7-forwarder", "pod/mri-7-forwarder", "service/mri-7"):
        stage.kubectl("delete", kind, *where, "--grace-period=0", "--force")
    await stage.until_ready_is("True", "Open", within=60)
