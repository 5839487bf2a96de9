"""A class whose hybrid connections stay in Azure, and how they are marked."""

import json

import pytest

from support.kubectl import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def class_options():
    return {"deletionPolicy": "Retain"}


async def test_what_is_kept_lets_nobody_in_and_is_taken_over_by_the_next_of_its_name(stage):
    where = ("-n", stage.namespace)
    await stage.open()
    first = stage.tunnel()["metadata"]["uid"]
    [connection] = stage.azure.hybrid_connections().values()
    assert connection.name == f"{stage.namespace}.mri-7"
    mark = json.loads(connection.user_metadata)
    assert mark["correlationId"] == mark["uid"] == first
    assert "retained" not in mark

    stage.kubectl("delete", "tunnel", "mri-7", *where, "--wait=false")
    await eventually(lambda: stage.tunnel() is None)
    await eventually(lambda: not stage.children(), explain=lambda: str(stage.children()))
    [kept] = stage.azure.hybrid_connections().values()
    assert (kept.name, kept.rules, kept.listeners) == (connection.name, (), 0)
    assert kept.created_at == connection.created_at
    assert json.loads(kept.user_metadata) == mark | {"retained": True}

    stage.apply()
    await stage.until_ready_is("True", "Open")
    second = stage.tunnel()["metadata"]["uid"]
    [adopted] = stage.azure.hybrid_connections().values()
    assert adopted.created_at == connection.created_at
    assert json.loads(adopted.user_metadata) == mark | {"uid": second, "correlationId": second}
    assert {rule.rpartition("-")[2] for rule in adopted.rules} == {second[:8]}


async def test_once_it_is_open_nothing_is_written_in_azure_any_more(stage):
    await stage.open()
    puts = [call for call in stage.azure.arm_calls if call.method == "PUT"]
    assert len(puts) == 3
    # A label is an occasion to look at the Tunnel, and a new process looks at all there is in Azure.
    stage.kubectl("label", "tunnel", "mri-7", "-n", stage.namespace, "seen=again")
    assert await stage.operator.stop() == 0
    await stage.operator.start()
    looks = len(stage.azure.arm_calls)
    await stage.azure.until(lambda: len(stage.azure.arm_calls) > looks, timeout=30)
    assert [call for call in stage.azure.arm_calls if call.method == "PUT"] == puts
