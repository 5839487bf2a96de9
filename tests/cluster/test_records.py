"""What the API server makes of a status that was decided from an older state of the Tunnel."""

import json

import pytest

from support.crashes import admin_api
from support.tunnels import tunnel_body
from tunnel_operator.adapters.kube import KubeCluster
from tunnel_operator.api.keys import Key
from tunnel_operator.errors import ConflictError


async def test_a_record_is_refused_once_anything_of_the_tunnel_has_changed(
    server, kubectl, namespace
):
    body = {**tunnel_body(), "metadata": {"name": "mri-7", "namespace": namespace}}
    kubectl("create", "-f", "-", stdin=json.dumps(body))
    key = Key(namespace, "mri-7")
    async with admin_api(server.kubeconfig) as api:
        cluster = KubeCluster(api, dict)
        seen = await cluster.get_tunnel(key)
        kubectl("annotate", "tunnel", "mri-7", "-n", namespace, "note=extended")
        wanted = seen.status.model_copy(update={"tunnel_class_name": "azure"})
        with pytest.raises(ConflictError):
            await cluster.apply_status(seen, wanted, only_unchanged=True)
        seen = await cluster.get_tunnel(key)
        assert seen.status.tunnel_class_name is None
        written = await cluster.apply_status(seen, wanted, only_unchanged=True)
        assert written.status.tunnel_class_name == "azure"
        # What is no record is said of whatever the Tunnel is by now.
        said = await cluster.apply_status(seen, wanted, only_unchanged=False)
        assert said.status == written.status
        kubectl("delete", "tunnel", "mri-7", "-n", namespace)
        for only_unchanged in (True, False):
            assert await cluster.apply_status(seen, wanted, only_unchanged=only_unchanged) is None
