"""What the API server makes of the operator's deletes."""

import json

from support.crashes import admin_api
from tunnel_operator.adapters.kube import KubeCluster
from tunnel_operator.core.observed import Kind

GRACE_SECONDS = 30


async def test_a_pod_whose_node_confirms_nothing_goes_by_force_alone(server, kubectl, namespace):
    spec = {
        "nodeName": "without-power",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "containers": [{"name": "forwarder", "image": "none"}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mri-7"}, "spec": spec}
    kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(pod))
    uid = kubectl.get("pod", "mri-7", "-n", namespace)["metadata"]["uid"]
    async with admin_api(server.kubeconfig) as api:
        cluster = KubeCluster(api, dict)
        where = (namespace, Kind.POD, "mri-7")
        for _ in range(2):
            going = await cluster.delete(*where, uid, is_forced=False)
            assert "deletionTimestamp" in going["metadata"]
        await cluster.delete(*where, "another", is_forced=True)
        assert kubectl.get("pod", "mri-7", "-n", namespace)["metadata"]["uid"] == uid
        assert await cluster.delete(*where, uid, is_forced=True) is None
        assert await cluster.delete(*where, uid, is_forced=True) is None
    assert kubectl.items("pods", "-n", namespace) == []
