"""What is made to reach a tunnel from outside, on a real API server."""

import json

import pytest

from support.kubectl import eventually


@pytest.fixture
def class_options():
    return {
        "exposure": {
            "allowedServiceTypes": ["NodePort", "LoadBalancer"],
            "allowedServiceAnnotations": ["a.test/*"],
        }
    }


async def test_an_ingress_is_made_waited_for_and_removed_when_it_is_not_wanted_any_more(stage):
    where = ("-n", stage.namespace)
    await stage.device.start()
    await stage.operator.start()
    stage.apply(expose={"ingress": {"host": "mri-7.tunnels.test"}})
    await stage.until_ready_is("False", "WaitingForAddress")
    address = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    stage.kubectl(
        *("patch", "ingress", "mri-7", *where, "--subresource=status", "--type=merge"),
        *("-p", json.dumps(address)),
    )
    await stage.until_ready_is("True", "Open")
    assert stage.tunnel()["status"]["url"] == "http://mri-7.tunnels.test"
    stage.apply()
    await eventually(lambda: stage.kubectl.get("ingress", "mri-7", *where) is None)
    await stage.until_ready_is("True", "Open")
    assert "url" not in stage.tunnel()["status"]


async def test_the_service_is_of_the_type_that_is_wished_for_also_when_that_changes(stage):
    where = ("-n", stage.namespace)

    def service():
        return stage.kubectl.get("service", "mri-7", *where)

    def node_ports():
        return [port.get("nodePort") for port in service()["spec"]["ports"]]

    await stage.open(expose={"service": {"type": "NodePort"}})
    assert all(node_ports())
    # Ports that the API server has given out are kept, whatever else is put right.
    given = node_ports()
    edit = [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 1}]
    stage.kubectl("patch", "service", "mri-7", *where, "--type=json", "-p", json.dumps(edit))
    await eventually(lambda: service()["spec"]["ports"][0]["targetPort"] != 1)
    assert node_ports() == given
    stage.apply(expose={"service": {"type": "LoadBalancer", "annotations": {"a.test/b": "c"}}})
    await stage.until_ready_is("False", "WaitingForAddress")
    assert service()["metadata"]["annotations"]["a.test/b"] == "c"
    address = {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.test"}]}}}
    stage.kubectl(
        *("patch", "service", "mri-7", *where, "--subresource=status", "--type=merge"),
        *("-p", json.dumps(address)),
    )
    await stage.until_ready_is("True", "Open")
    stage.apply()
    await eventually(lambda: service()["spec"]["type"] == "ClusterIP")
    await stage.until_ready_is("True", "Open")
    assert not any(node_ports())
    assert "a.test/b" not in service()["metadata"]["annotations"]


async def test_an_ingress_has_the_certificate_that_is_named(stage):
    await stage.device.start()
    await stage.operator.start()
    stage.apply(expose={"ingress": {"host": "mri-7.tunnels.test", "tlsSecretName": "page"}})
    await stage.until_ready_is("False", "WaitingForAddress")
    ingress = stage.kubectl.get("ingress", "mri-7", "-n", stage.namespace)
    assert ingress["spec"]["tls"] == [{"hosts": ["mri-7.tunnels.test"], "secretName": "page"}]
    assert stage.tunnel()["status"]["url"] == "https://mri-7.tunnels.test"
