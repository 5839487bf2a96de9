"""What is decided from a Tunnel that has changed since, and the watch has not said so yet."""

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from support.tunnel_machine import SETTINGS, TunnelMachine
from support.tunnels import tunnel_body
from tunnel_operator.core.observed import Kind

MINUTE = timedelta(minutes=1)


async def opened(world, **spec):
    key = world.apply(tunnel_body(**spec))
    await world.settle(key)
    await world.pass_time(key, MINUTE)
    world.is_watch_late = True
    return key


async def test_a_tunnel_that_opens_and_runs_is_not_read_again(world):
    key = world.apply(tunnel_body(ttl="1h"))
    await world.settle(key)
    await world.pass_time(key, timedelta(hours=2))
    assert world.ready(key) == ("False", "Expired")
    assert world.cluster.reads == 0


async def test_an_extension_that_was_not_heard_of_yet_is_not_overlooked(world):
    key = await opened(world, ttl="10m")
    world.now += 8 * MINUTE
    world.apply(tunnel_body(ttl="30m"))
    world.now += 2 * MINUTE
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert world.azure.calls["open mri-7"] == 2
    assert (world.azure.calls["delete"], world.cluster.reads) == (0, 1)
    await world.pass_time(key, 21 * MINUTE)
    assert world.ready(key) == ("False", "Expired")


async def test_a_deletion_that_was_not_heard_of_yet_is_found_at_the_end(world):
    key = await opened(world, ttl="10m")
    world.delete(key)
    world.now += 11 * MINUTE
    await world.settle(key)
    assert key not in world.cluster.tunnels
    assert world.is_bare()


async def test_who_changes_the_tunnel_without_end_does_not_keep_it_open(world):
    key = await opened(world, ttl="10m")

    def change_first(name):
        if name == "apply_status":
            world.cluster.touch(world.cluster.tunnels[key])

    world.cluster.hook = change_first
    world.now += 10 * MINUTE
    await world.settle(key)
    assert world.ready(key) == ("False", "Expired")
    assert world.is_bare()


async def test_what_was_opened_on_an_older_spec_is_put_right_when_the_watch_brings_it(world):
    key = world.apply(tunnel_body())
    world.is_watch_late = True
    world.apply(tunnel_body(ports=[{"name": "web", "port": 81}]))
    await world.settle(key)
    world.cluster.feed(world.cache)
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    assert [p["port"] for p in world.cluster.child(Kind.SERVICE)["spec"]["ports"]] == [81]


class LateWatch(TunnelMachine):
    """Whatever people do, no end is recorded that was decided from what they have changed since."""

    def __init__(self):
        super().__init__()
        self.write = self.world.cluster.apply_status
        self.world.cluster.apply_status = self.check_and_write
        self.world.apply(self.make(ttl="10m"))
        self.world.is_watch_late = True

    async def check_and_write(self, tunnel, status, **options):
        written = await self.write(tunnel, status, **options)
        session = status.session
        if written is not None and session is not None and tunnel.status.session is None:
            assert session.generation == written.metadata.generation
        return written

    @rule()
    def watch_brings_it_all(self):
        self.world.cluster.feed(self.world.cache)

    @rule(
        change=st.sampled_from(
            [{"ttl": "5m"}, {"ttl": "2h"}, {"suspend": True}, {"suspend": False}, {"renewals": 3}]
        )
    )
    def edit(self, change):
        if self.exists:
            self.change(change)


LateWatch.TestCase.settings = SETTINGS
TestLateWatch = LateWatch.TestCase
