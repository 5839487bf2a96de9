"""Whatever people, Azure, devices and crashes do, in whatever order, the tunnel converges."""

import asyncio
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from support.operator_world import Crash, OperatorWorld, ended_status
from support.tunnels import a_class, tunnel_body
from tunnel_operator.api.keys import Key
from tunnel_operator.core.closing import GIVE_UP_AFTER
from tunnel_operator.core.observed import Kind

KEY = Key("imaging", "mri-7")


class Convergence(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = OperatorWorld()
        self.classes = self.world.classes
        self.spec = {}
        self.created = 0
        self.is_watching = True
        self.gives_up_at = self.world.now

    @property
    def exists(self):
        return KEY in self.world.cluster.tunnels

    def run(self, coroutine):
        """Run the operator's part; a crash ends the process, and another one is started."""
        try:
            asyncio.run(coroutine)
        except (Crash, BaseExceptionGroup):
            self.world.crash_at = None
            self.world.start_operator()

    def notice(self):
        """Let the watch bring what has just changed, unless it lags behind."""
        if self.is_watching:
            self.run(self.world.reconcile(KEY))

    @rule(is_watching=st.booleans())
    def watch_lags(self, is_watching):
        self.is_watching = is_watching
        self.notice()

    @precondition(lambda self: not self.exists)
    @rule(suspend=st.booleans())
    def create(self, suspend):
        self.created += 1
        self.spec = {"ttl": "10m", "suspend": suspend}
        self.world.apply(tunnel_body(uid=f"{self.created:08d}-uid", **self.spec))
        self.notice()

    @precondition(lambda self: self.exists)
    @rule(
        change=st.sampled_from(
            [
                {"ttl": "10m"},
                {"ttl": "2h"},
                {"suspend": True},
                {"suspend": False},
                {"renewals": 1},
                {"renewals": 2},
                {"ports": [{"name": "web", "port": 80, "protocol": "HTTP"}]},
                {"ports": [{"name": "ssh", "port": 22}, {"name": "db", "port": 5432}]},
            ]
        )
    )
    def edit(self, change):
        self.spec |= change
        self.world.apply(tunnel_body(**self.spec))
        self.notice()

    @rule()
    def delete(self):
        if self.exists and not self.world.tunnel(KEY).is_deleting:
            end = self.world.tunnel(KEY).status.expires_at or self.world.now
            self.gives_up_at = max(end, self.world.now) + GIVE_UP_AFTER
        self.world.delete(KEY)
        self.notice()

    @rule(steps=st.integers(0, 12))
    def operate_and_crash(self, steps):
        self.world.crash_at = self.world.steps + steps
        self.run(self.world.reconcile(KEY))
        self.world.crash_at = None

    @rule()
    def restart(self):
        self.world.start_operator()

    @rule(minutes=st.sampled_from([0.02, 0.5, 4, 11, 130]))
    def time_passes(self, minutes):
        self.run(self.world.pass_time(KEY, timedelta(minutes=minutes)))

    @rule(online=st.booleans())
    def device_connects(self, online):
        (self.world.azure.online.add if online else self.world.azure.online.discard)("mri-7")

    @rule()
    def device_reboots(self):
        self.world.azure.listening.clear()
        self.world.run_kubelet()
        self.notice()

    @rule(outage=st.booleans())
    def azure_fails(self, outage):
        self.world.azure.outage = outage

    @rule(is_there=st.booleans())
    def class_comes_and_goes(self, is_there):
        self.world.classes = self.classes if is_there else []
        for klass in self.classes:
            if is_there:
                self.world.cache.put_class(klass)
            else:
                self.world.cache.drop_class(klass.metadata.name)
        self.notice()

    @rule(access=st.sampled_from([None, [], [{"devices": ["mri-*"], "maxTTL": "1h"}]]))
    def rules_change(self, access):
        change = {} if access is None else {"access": access}
        self.classes = [a_class(**change)]
        if self.world.classes:
            self.class_comes_and_goes(is_there=True)

    @rule(reason=st.sampled_from(["Idle", "Drained", "Failed", "Expired"]))
    def forwarder_ends(self, reason):
        pod = self.world.cluster.child(Kind.POD)
        if pod is not None:
            pod["status"] = ended_status(reason)
            self.world.cluster.touch(pod)
            self.world.cluster.feed(self.world.cache)
        self.notice()

    @rule(kind=st.sampled_from(list(Kind)))
    def somebody_deletes_a_child(self, kind):
        child = self.world.cluster.child(kind)
        if child is not None:
            del self.world.cluster.children["imaging", kind, child["metadata"]["name"]]
            self.world.cache.drop_child(child)
        self.notice()

    @rule()
    def somebody_deletes_the_hybrid_connection(self):
        self.world.azure.connections.clear()
        self.world.azure.listening.clear()

    @invariant()
    def conditions_are_clean(self):
        if not self.exists:
            return
        conditions = {c.type: c for c in self.world.tunnel(KEY).status.conditions}
        assert not {"Reconciling", "Stalled"} <= set(conditions)
        if conditions and conditions["Ready"].status == "True":
            assert not {"Reconciling", "Stalled"} & set(conditions)

    @invariant()
    def nothing_is_in_azure_without_a_finalizer_to_remove_it(self):
        if not self.world.azure.connections:
            return
        if self.exists:
            tunnel = self.world.tunnel(KEY)
            if tunnel.has_finalizer:
                return
            # Only a class that nobody remembers leaves something behind, and the Tunnel says what.
            left = tunnel.status.hybrid_connection
            assert {left.name} == set(self.world.azure.connections)
            assert self.world.now >= tunnel.status.expires_at + GIVE_UP_AFTER
        else:
            # Only Azure's being away until long after the tokens' end leaves something behind.
            assert self.world.now >= self.gives_up_at
        self.world.azure.connections.clear()
        self.world.azure.listening.clear()

    def teardown(self):
        """At last all works, and nobody interferes: the tunnel is open or closed, and nothing is left over."""
        self.world.azure.outage = False
        self.world.azure.online.add("mri-7")
        self.classes = self.world.classes = [a_class()]
        self.world.start_operator()
        if not self.exists:
            asyncio.run(self.world.reconcile(KEY))
            assert not self.world.azure.connections
            return
        self.world.start_operator()
        asyncio.run(self.settle())
        if not self.exists:
            assert not self.world.azure.connections
            assert not self.world.cluster.children
            return
        status, reason = self.world.ready(KEY)
        if status == "True":
            assert self.world.now < self.world.tunnel(KEY).status.expires_at
            assert len(self.world.azure.connections) == 1
            asked = self.world.azure.listening["mri-7"]
            assert asked.expires_at == self.world.tunnel(KEY).status.expires_at
            wanted = [port.name for port in self.world.tunnel(KEY).spec.ports]
            assert [forward.port_name for forward in asked.forwards] == wanted
        else:
            assert reason in ("Expired", "Idle", "Suspended")
            assert not self.world.azure.connections
            assert not self.world.cluster.children
            assert not self.world.tunnel(KEY).has_finalizer
        asyncio.run(self.stays_settled())

    async def settle(self):
        await self.world.settle(KEY)
        # What has just failed, or was just replaced, may wait for half a minute before the next try.
        await self.world.pass_time(KEY, timedelta(seconds=45))

    async def stays_settled(self):
        writes = dict(self.world.cluster.writes)
        await self.world.reconcile(KEY)
        assert dict(self.world.cluster.writes) == writes


Convergence.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestConvergence = Convergence.TestCase
