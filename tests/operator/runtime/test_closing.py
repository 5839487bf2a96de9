"""How a Tunnel ends, is closed, and opens again."""

from datetime import timedelta

import pytest

from support.operator_world import ended_status
from support.tunnels import tunnel_body
from tunnel_operator.core.observed import Kind
from tunnel_operator.errors import Postponed


async def test_deleting_removes_everything_and_tells_the_device(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert world.is_bare()
    assert world.azure.calls["close mri-7"] == 1


async def test_an_offline_device_does_not_hold_a_deletion(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.azure.online.clear()
    world.delete(key)
    await world.reconcile(key)
    assert key not in world.cluster.tunnels
    assert world.is_bare()


async def test_a_deletion_waits_for_azure_and_gives_up_once_the_tokens_are_dead(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    world.azure.outage = True
    world.delete(key)
    await world.reconcile(key)
    await world.pass_time(key, timedelta(minutes=50))
    assert world.ready(key) == ("False", "Closing")
    await world.pass_time(key, timedelta(minutes=25))
    assert key not in world.cluster.tunnels


async def test_who_stands_in_line_to_be_taken_down_asks_azure_nothing_meanwhile(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    budget = world.azure.budget
    await budget.take("others", 190)
    for number in range(3):
        with pytest.raises(Postponed):
            await budget.take(f"other {number}", 150)
    asked = {verb: n for verb, n in world.azure.calls.items() if verb.startswith("observe")}
    world.delete(key)
    await world.reconcile(key)
    assert "Azure Resource Manager's budget" in str(world.cluster.tunnels[key]["status"])
    # Longer than what is known of a tunnel on its way up is good for.
    await world.pass_time(key, timedelta(minutes=1))
    assert key not in world.cluster.tunnels
    assert world.is_bare()
    assert asked == {v: n for v, n in world.azure.calls.items() if v.startswith("observe")}
    assert world.azure.calls["close mri-7"] == 1


async def test_deleted_while_the_operator_is_down_everything_is_removed(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.delete(key)
    world.start_operator()
    await world.settle(key)
    assert key not in world.cluster.tunnels
    assert world.is_bare()


async def test_closes_at_the_end_of_its_time_and_stays_closed(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=10, seconds=1))
    assert world.ready(key) == ("False", "Expired")
    assert world.is_bare()
    assert not world.tunnel(key).has_finalizer
    world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    assert world.ready(key) == ("False", "Expired")
    assert world.is_bare()


async def test_a_changed_spec_opens_an_ended_tunnel_again(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=11))
    world.apply(tunnel_body(ttl="10m", renewals=1))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.expires_at == world.now + timedelta(minutes=10)
    assert world.tunnel(key).status.session is None


async def test_a_tunnel_that_is_refused_after_its_end_is_not_looked_at_without_a_pause(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    world.apply(tunnel_body(ttl="24h"))
    await world.settle(key)
    assert world.ready(key) == ("False", "TTLTooLong")
    await world.pass_time(key, timedelta(hours=2))
    assert world.is_bare()
    assert await world.reconcile(key) is None


async def test_a_longer_ttl_extends_without_replacing_the_pod(world):
    key = world.apply(tunnel_body(ttl="10m"))
    await world.settle(key)
    pod, opened_at = world.cluster.child(Kind.POD), world.tunnel(key).status.opened_at
    await world.pass_time(key, timedelta(minutes=5))
    world.apply(tunnel_body(ttl="30m"))
    await world.settle(key)
    assert world.cluster.child(Kind.POD)["metadata"]["uid"] == pod["metadata"]["uid"]
    assert world.tunnel(key).status.expires_at == opened_at + timedelta(minutes=30)
    assert world.azure.listening["mri-7"].expires_at == opened_at + timedelta(minutes=30)
    assert world.ready(key) == ("True", "Open")


async def test_suspend_closes_and_resume_opens_anew(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    world.apply(tunnel_body(suspend=True))
    await world.settle(key)
    assert world.ready(key) == ("False", "Suspended")
    assert world.is_bare()
    world.now += timedelta(minutes=3)
    world.apply(tunnel_body(suspend=False))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.tunnel(key).status.opened_at == world.now


async def test_an_idle_forwarder_ends_the_session_with_its_totals(world):
    key = world.apply(tunnel_body())
    await world.settle(key)
    await world.pass_time(key, timedelta(minutes=16))
    world.cluster.child(Kind.POD)["status"] = ended_status("Idle", bytesIn=77)
    world.cluster.touch(world.cluster.child(Kind.POD))
    world.cluster.feed(world.cache)
    await world.settle(key)
    assert world.ready(key) == ("False", "Idle")
    session = world.tunnel(key).status.session
    assert (session.connections, session.bytes_in, session.bytes_out) == (3, 77, 20)
    assert world.is_bare()
