"""What people, Azure, devices and crashes do about one Tunnel, in whatever order, as rules for Hypothesis."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from support.operator_azure import mark_of
from support.operator_world import Crash, OperatorWorld, ended_status, only_crashed
from support.tunnels import a_class, tunnel_body
from tunnel_operator.api.keys import Key
from tunnel_operator.core.observed import Kind

KEY = Key("imaging", "mri-7")
SETTINGS = settings(max_examples=200, stateful_step_count=30, deadline=None)


class TunnelMachine(RuleBasedStateMachine):
    """The rules that any test of one Tunnel shares; each has its own for how it is made and edited."""

    make_world: type[OperatorWorld] = OperatorWorld

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.access: list[dict[str, Any]] | None = None
        self.policy = "Delete"
        self.policies = {self.policy}
        self.classes = self.world.classes
        self.spec: dict[str, Any] = {}
        self.created = 0

    @property
    def exists(self) -> bool:
        return KEY in self.world.cluster.tunnels

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run the operator's part; a crash, and only that, ends the process, and another one is started."""
        try:
            asyncio.run(coroutine)
        except (Crash, BaseExceptionGroup) as error:
            only_crashed(error)
            self.world.crash_at = None
            self.world.start_operator()

    def notice(self) -> None:
        """Do what follows from a change at once, if anything does: a test says what."""

    def make(self, **spec: Any) -> dict[str, Any]:
        """Return a new Tunnel's body, with a uid of its own."""
        self.created += 1
        self.spec = spec
        return tunnel_body(uid=f"{self.created:08d}-uid", **spec)

    def change(self, change: dict[str, Any]) -> None:
        """Apply the Tunnel with some of its spec changed."""
        self.spec = self.spec | change
        self.world.apply(tunnel_body(**self.spec))
        self.notice()

    @rule()
    def delete(self) -> None:
        self.world.delete(KEY)
        self.notice()

    @rule(steps=st.integers(0, 14))
    def operate_and_crash(self, steps: int) -> None:
        self.world.crash_at = self.world.steps + steps
        self.run(self.world.reconcile(KEY))
        self.world.crash_at = None

    @rule(minutes=st.sampled_from([0.02, 0.5, 4, 11, 130]))
    def time_passes(self, minutes: float) -> None:
        self.run(self.world.pass_time(KEY, timedelta(minutes=minutes)))

    @rule(online=st.booleans())
    def device_connects(self, online: bool) -> None:  # noqa: FBT001 - drawn by Hypothesis
        (self.world.azure.online.add if online else self.world.azure.online.discard)("mri-7")

    @rule()
    def device_reboots(self) -> None:
        self.world.azure.stop_listening()
        self.world.run_kubelet()
        self.notice()

    @rule(outage=st.booleans())
    def azure_fails(self, outage: bool) -> None:  # noqa: FBT001 - drawn by Hypothesis
        self.world.azure.outage = outage

    @rule(is_there=st.booleans())
    def class_comes_and_goes(self, is_there: bool) -> None:  # noqa: FBT001 - drawn by Hypothesis
        self.world.classes = self.classes if is_there else []
        if is_there:
            self.sweep()
        for klass in self.classes:
            if is_there:
                self.world.cache.put_class(klass)
            else:
                self.world.cache.drop_class(klass.metadata.name)
        self.notice()

    @rule(access=st.sampled_from([None, [], [{"devices": ["mri-*"], "maxTTL": "1h"}]]))
    def rules_change(self, access: list[dict[str, Any]] | None) -> None:
        self.access = access
        self.remake_class()

    @rule(policy=st.sampled_from(["Delete", "Retain"]))
    def class_is_made_anew(self, policy: str) -> None:
        """Delete the class, and make another of its name: of one class the policy can not be changed."""
        self.policy = policy
        self.policies.add(policy)
        if self.world.classes:
            self.class_comes_and_goes(is_there=False)
            self.remake_class()
            self.class_comes_and_goes(is_there=True)
        else:
            self.remake_class()

    def sweep(self) -> None:
        """Remove what a crash left off the record, once the class may give another name: it is the sweeper's.

        How that finds it, tests/operator/runtime/test_orphans.py shows.
        """
        if len(self.policies) == 1:
            return
        known = self.world.tunnel(KEY).status.hybrid_connection if self.exists else None
        for name, one in tuple(self.world.azure.connections.items()):
            if not mark_of(one).is_retained and (known is None or name != known.name):
                self.world.azure.remove(name)

    def remake_class(self) -> None:
        """Let the class say what was drawn last."""
        access = {} if self.access is None else {"access": self.access}
        self.classes = [a_class(deletionPolicy=self.policy, **access)]
        if self.world.classes:
            self.class_comes_and_goes(is_there=True)

    @rule(reason=st.sampled_from(["Idle", "Drained", "Failed", "Expired"]))
    def forwarder_ends(self, reason: str) -> None:
        pod = self.world.cluster.child(Kind.POD)
        if pod is not None:
            pod["status"] = ended_status(reason)
            self.world.cluster.touch(pod)
            self.world.cluster.feed(self.world.cache)
        self.notice()
