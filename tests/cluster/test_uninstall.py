"""Removing everything as docs/uninstall.md says, with Kubernetes' own controllers at work."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from support.kubectl import install
from tunnel_dev import apiserver

PAGE = Path(__file__).parents[2] / "docs/uninstall.md"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def server():
    """Return a server of this module's own: the resource definitions go, too."""
    names = ("namespace-controller", "garbage-collector-controller")
    with apiserver.running() as running, apiserver.controllers(running, *names):
        yield running


@pytest.fixture
def kubectl(server):
    return install(server)


def commands(heading):
    """Return the page's commands under a heading, each as the arguments of kubectl."""
    [section] = re.findall(
        rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
        for line in block.splitlines()
    ]
    assert all(line.startswith("kubectl ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


async def run(stage, arguments):
    """Run a command that waits, and let the node, the device and Azure go on meanwhile."""
    return await asyncio.to_thread(stage.kubectl, *arguments)


async def open_a_tunnel(stage):
    await stage.open()


async def test_nothing_is_left_after_the_documented_order(stage):
    await open_a_tunnel(stage)
    for arguments in commands("In this order"):
        await run(stage, arguments)
        if "deployment" in arguments:
            assert not stage.azure.hybrid_connections()
            assert await stage.operator.stop() == 0
    assert [c.method for c in stage.azure.method_calls] == ["CreateConnection", "DeleteConnection"]
    ours = ("-l", "app.kubernetes.io/part-of=edge-tunnels")
    policies = ("validatingadmissionpolicies", "validatingadmissionpolicybindings")
    for kind in ("crds", "clusterroles", "clusterrolebindings", *policies):
        assert stage.kubectl.items(kind, *ours) == []
    everything = "pods,secrets,services,ingresses,serviceaccounts,deployments,poddisruptionbudgets"
    assert stage.kubectl.items(everything, "-A", *ours) == []
    assert stage.kubectl.get("namespace", "tunnels-system") is None
    assert stage.kubectl.get("namespace", stage.namespace)["status"]["phase"] == "Active"


async def test_a_namespace_with_a_live_tunnel_can_be_deleted(stage):
    await open_a_tunnel(stage)
    await run(stage, ("delete", "namespace", stage.namespace, "--timeout=60s"))
    assert stage.kubectl.get("namespace", stage.namespace) is None
    assert not stage.azure.hybrid_connections()


async def test_without_the_operator_a_tunnel_waits_and_can_be_let_go_by_hand(stage):
    await open_a_tunnel(stage)
    await stage.operator.stop()
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    assert stage.tunnel()["metadata"]["finalizers"] == ["tunnels.dev/cleanup"]
    names = {"NAME": "mri-7", "NAMESPACE": stage.namespace}
    look, let_go = commands("When the operator has gone first")
    left = await run(stage, [names.get(word, word) for word in look])
    await run(stage, [names.get(word, word) for word in let_go])
    assert stage.tunnel() is None
    # What the page says is left, and how to find it.
    [connection] = stage.azure.hybrid_connections().values()
    assert connection.name == left
    assert connection.user_metadata.startswith('{"owner": "tunnels.dev"')
