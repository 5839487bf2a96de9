"""The series that a Tunnel has, over its life, as the operator itself would report them."""

from datetime import timedelta

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.operator_world import OperatorWorld
from support.tunnels import tunnel_body
from tunnel_operator.api.reasons import ConditionType

WHICH = {"namespace": "imaging", "name": "mri-7"}


@pytest.fixture
def world():
    world = OperatorWorld()
    world.azure.online.add("mri-7")
    return world


def samples(world, name):
    text = generate_latest(world.registry).decode()
    return [
        (sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


def value(world, metric, **wanted):
    [found] = [v for labels, v in samples(world, metric) if wanted.items() <= labels.items()]
    return found


def is_true(world):
    return {
        labels["type"]: labels["status"] for labels, v in samples(world, "tunnel_condition") if v
    }


async def test_every_condition_has_exactly_one_status(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    found = samples(world, "tunnel_condition")
    assert len(found) == 3 * len(ConditionType)
    assert sum(v for _, v in found) == len(ConditionType)
    assert is_true(world)["Ready"] == "True"
    assert is_true(world)["Stalled"] == "False"
    assert samples(world, "tunnel_ready_reason") == [(WHICH | {"reason": "Open"}, 1)]


async def test_the_time_to_the_end_goes_down_by_itself_and_shows_what_outlives_it(world):
    key = world.apply(tunnel_body(ttl="30m"))
    await world.settle(key)
    assert value(world, "tunnel_seconds_to_expiry", **WHICH) == 1800
    world.now += timedelta(minutes=10)
    assert value(world, "tunnel_seconds_to_expiry", **WHICH) == 1200
    world.azure.outage = True
    await world.pass_time(key, timedelta(minutes=25))
    assert value(world, "tunnel_seconds_to_expiry", **WHICH) == -300
    world.azure.outage = False
    await world.pass_time(key, timedelta(minutes=1))
    assert world.ready(key) == ("False", "Expired")
    assert samples(world, "tunnel_seconds_to_expiry") == []


async def test_nothing_is_left_of_a_tunnel_that_is_gone(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    await world.settle(key)
    for name in ("tunnel_condition", "tunnel_ready_reason", "tunnel_seconds_to_expiry"):
        assert samples(world, name) == []


async def test_nothing_is_left_of_a_tunnel_that_another_controller_has(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    [klass] = world.classes
    spec = klass.spec.model_copy(update={"controller_name": "another"})
    world.cache.put_class(klass.model_copy(update={"spec": spec}))
    await world.reconcile(key)
    assert samples(world, "tunnel_condition") == []


async def test_a_restarted_operator_shows_a_settled_tunnel_without_writing_it(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.start_operator()
    writes = dict(world.cluster.writes)
    await world.settle(key)
    assert is_true(world)["Ready"] == "True"
    assert dict(world.cluster.writes) == writes
    assert samples(world, "tunnel_set_up_seconds_count") == []


async def test_the_set_up_is_measured_for_each_hop(world):
    world.azure.online.clear()
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.azure.online.add("mri-7")
    await world.pass_time(key, timedelta(seconds=31))
    counts = {labels["hop"]: v for labels, v in samples(world, "tunnel_set_up_seconds_count")}
    assert counts == dict.fromkeys(
        ("HybridConnectionReady", "DeviceListening", "ForwarderReady", "Exposed", "Ready"), 1
    )
    assert value(world, "tunnel_set_up_seconds_sum", hop="HybridConnectionReady") == 0
    assert 1 <= value(world, "tunnel_set_up_seconds_sum", hop="DeviceListening") <= 31


async def test_failures_in_a_row_are_summed_up_by_step(world):
    world.azure.online.clear()
    for name in ("mri-7", "ct-1"):
        key = world.apply(tunnel_body(name))
        await world.reconcile(key)
    assert value(world, "tunnel_operator_failing_tunnels", step="device") == 2
    assert value(world, "tunnel_operator_failures_in_a_row", step="device") == 1
    world.azure.online |= {"mri-7", "ct-1"}
    world.now += timedelta(minutes=1)
    await world.reconcile(key)
    assert value(world, "tunnel_operator_failing_tunnels", step="device") == 1
