"""What is made to reach a tunnel from outside, on a real API server."""

import json

from support.kubectl import eventually


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
