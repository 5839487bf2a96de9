"""Whatever people, Azure, devices and crashes do, in whatever order, the tunnel converges."""

import asyncio
from base64 import b64decode
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from support.operator_azure import HOST, mark_of
from support.operator_world import OperatorWorld
from support.tunnel_machine import KEY, SETTINGS, TunnelMachine
from tunnel_operator.core.closing import GIVE_UP_AFTER
from tunnel_operator.core.observed import Kind

MAKES = (
    *("apply_Secret", "apply_Pod", "apply_Service", "open_device"),
    *("arm PUT authorizationRule", "arm POST listKeys"),
)
"""What opens a way. A hybrid connection that is kept is written without rules, to mark it, when its Tunnel goes."""

TWO_SECONDS = timedelta(seconds=2)


class StrictWorld(OperatorWorld):
    """A world in which nothing may be made for a Tunnel that is gone, or on its way."""

    def _step(self, name):
        body = self.cluster.tunnels.get(KEY)
        is_there = body is not None and "deletionTimestamp" not in body["metadata"]
        assert is_there or not name.startswith(MAKES), f"{name} after the Tunnel was deleted"
        super()._step(name)


class Convergence(TunnelMachine):
    make_world = StrictWorld

    def __init__(self):
        super().__init__()
        self.is_watching = True
        self.tokens = {}
        self.gives_up_at = self.world.now

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
        self.world.apply(self.make(ttl="10m", suspend=suspend))
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
        self.change(change)

    @rule()
    def delete(self):
        if self.exists and not self.world.tunnel(KEY).is_deleting:
            end = self.world.tunnel(KEY).status.expires_at or self.world.now
            self.gives_up_at = max(end, self.world.now) + GIVE_UP_AFTER
        super().delete()

    @rule()
    def restart(self):
        self.world.start_operator()

    @rule(kind=st.sampled_from(list(Kind)))
    def somebody_deletes_a_child(self, kind):
        child = self.world.cluster.child(kind)
        if child is not None:
            del self.world.cluster.children["imaging", kind, child["metadata"]["name"]]
            self.world.cache.drop_child(child)
        self.notice()

    @rule()
    def somebody_deletes_the_hybrid_connection(self):
        self.world.azure.remove()

    @invariant()
    def conditions_are_clean(self):
        if not self.exists:
            return
        conditions = {c.type: c for c in self.world.tunnel(KEY).status.conditions}
        assert not {"Reconciling", "Stalled"} <= set(conditions)
        if conditions and conditions["Ready"].status == "True":
            assert not {"Reconciling", "Stalled"} & set(conditions)

    def split(self):
        """Return the hybrid connections that let somebody in, or may, and those that are kept."""
        found = self.world.azure.connections
        kept = {name for name, one in found.items() if mark_of(one).is_retained}
        return found.keys() - kept, kept

    @invariant()
    def no_token_outlives_the_end_that_the_tunnel_had_when_it_was_made(self):
        for token in self.given_out() - self.tokens.keys():
            self.tokens[token] = self.world.tunnel(KEY).status.expires_at
        for token, end in self.tokens.items():
            if self.world.now >= end + TWO_SECONDS:
                for name in self.world.azure.connections:
                    assert not self.world.azure.rights(HOST, name, token)

    @invariant()
    def what_is_kept_lets_nobody_in(self):
        _, kept = self.split()
        assert not kept or "Retain" in self.policies
        for name in kept:
            assert not self.world.azure.connections[name].rules
            assert not any(self.world.azure.rights(HOST, name, token) for token in self.tokens)

    def given_out(self):
        """Return the tokens that the two ends hold now."""
        asked = self.world.azure.listening.get("mri-7")
        listen = set() if asked is None else {asked.listen_token.reveal()}
        secret = self.world.cluster.child(Kind.SECRET)
        send = set() if secret is None else {b64decode(secret["data"]["token"]).decode()}
        return listen | send

    @invariant()
    def nothing_is_in_azure_without_a_finalizer_to_remove_it(self):
        live, _ = self.split()
        if not live:
            return
        if self.exists:
            tunnel = self.world.tunnel(KEY)
            if tunnel.has_finalizer:
                return
            # Only a class that nobody remembers leaves something behind, and the Tunnel says what.
            left = tunnel.status.hybrid_connection
            assert {left.name} == live
            assert self.world.now >= tunnel.status.expires_at + GIVE_UP_AFTER
        else:
            # Only Azure's being away until long after the tokens' end leaves something behind.
            assert self.world.now >= self.gives_up_at
        self.world.azure.remove(*live)

    def teardown(self):
        """At last all works, and nobody interferes: the tunnel is open or closed, and nothing is left over."""
        self.world.azure.outage = False
        self.world.azure.online.add("mri-7")
        self.access = None
        self.remake_class()
        self.world.classes = self.classes
        self.sweep()
        self.world.start_operator()
        if not self.exists:
            asyncio.run(self.world.reconcile(KEY))
            self.nothing_lets_anybody_in()
            return
        self.world.start_operator()
        asyncio.run(self.settle())
        if not self.exists:
            self.nothing_lets_anybody_in()
            return
        status, reason = self.world.ready(KEY)
        if status == "True":
            assert self.world.now < self.world.tunnel(KEY).status.expires_at
            assert len(self.split()[0]) == 1
            asked = self.world.azure.listening["mri-7"]
            assert asked.expires_at == self.world.tunnel(KEY).status.expires_at
            wanted = [port.name for port in self.world.tunnel(KEY).spec.ports]
            assert [forward.port_name for forward in asked.forwards] == wanted
        else:
            assert reason in ("Expired", "Idle", "Suspended")
            self.nothing_lets_anybody_in()
            assert not self.world.tunnel(KEY).has_finalizer
        asyncio.run(self.stays_settled())
        if status == "True":
            self.goes_as_its_class_says()

    def nothing_lets_anybody_in(self):
        live, _ = self.split()
        assert not live
        assert not self.world.cluster.children
        self.what_is_kept_lets_nobody_in()

    def goes_as_its_class_says(self):
        """Delete it at last: its hybrid connection is kept, or gone, and nothing else is left."""
        [own], before = self.split()
        self.world.delete(KEY)
        asyncio.run(self.world.settle(KEY))
        assert not self.exists
        self.nothing_lets_anybody_in()
        _, kept = self.split()
        assert kept - before == ({own} if self.policy == "Retain" else set())

    async def settle(self):
        await self.world.settle(KEY)
        # What has just failed, or was just replaced, may wait for half a minute before the next try.
        await self.world.pass_time(KEY, timedelta(seconds=45))

    async def stays_settled(self):
        writes = dict(self.world.cluster.writes)
        await self.world.reconcile(KEY)
        assert dict(self.world.cluster.writes) == writes


Convergence.TestCase.settings = SETTINGS
TestConvergence = Convergence.TestCase
