"""The one code path: gather, plan, report, execute, until there is nothing left to do."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

import structlog

from tunnel_forwarder.protocol.method import OpenRequest

from ..api.keys import Key
from ..api.reasons import ConditionType
from ..api.tunnel import DeviceStatus, Tunnel
from ..api.tunnel_class import DeletionPolicy, Naming, TunnelClass
from ..core import looks, names
from ..core.actions import (
    Action,
    AddFinalizer,
    ApplyForwarderPod,
    ApplyForwarderSecret,
    ApplyObject,
    Ask,
    Branch,
    CloseDevice,
    DeleteHybridConnection,
    DeleteObject,
    DeleteRules,
    EnsureHybridConnection,
    OpenDevice,
    Plan,
    RemoveFinalizer,
    RetainHybridConnection,
    step_of,
)
from ..core.breaker import FAULTS
from ..core.looks import Look
from ..core.manifests import with_secret_version, with_token
from ..core.observed import (
    KEY_CHANGED,
    DeviceAnswer,
    Failure,
    HybridConnection,
    Kind,
    NoHybridConnection,
    Observed,
    Step,
)
from ..core.plan import plan
from ..errors import ConflictError, Postponed, TunnelError
from . import ends, stuck
from .cache import Cache
from .leadership import Leadership
from .memory import Memory, Revision
from .ports import Clock, Cluster, Devices, Events, Recorder, Relay
from .reporter import Reporter, Round
from .rollout import Rollout

MAX_ROUNDS = 8
"""How often one pass looks again after it has acted; more can only come from a fault of ours."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside the loop."""

    cluster: Cluster
    relay: Relay
    devices: Devices
    events: Events
    cache: Cache
    memory: Memory
    leadership: Leadership
    recorder: Recorder
    clock: Clock
    rollout: Rollout = field(default_factory=Rollout)


class _Pass(Round):
    """What all actions of one round are about."""

    def __init__(self, tunnel: Tunnel, world: World, *, is_certain: bool) -> None:
        super().__init__(tunnel, is_certain=is_certain)
        self.key = tunnel.key
        self.klass = world.cache.class_of(tunnel)
        self._world = world

    def keep(self, written: Tunnel | None) -> None:
        """Take what a write returned; its echo by the watch is no news if nobody else has changed it."""
        super().keep(written)
        if written is None:
            self._world.cache.found_gone(self.key)
        else:
            is_ours = written.is_like(self.tunnel)
            self._world.cache.wrote_tunnel(written, is_ours=is_ours)


class Reconciler:
    """Brings one Tunnel after another to where it should be. Holds no state of its own."""

    def __init__(self, world: World, *, controller_name: str, default_image: str) -> None:
        self._world = world
        self._controller_name = controller_name
        self._default_image = default_image
        self._reporter = Reporter(world.cluster, world.events, world.memory, world.leadership)

    async def reconcile(self, key: Key) -> datetime | None:
        """Do all that can be done for a Tunnel now; return when to look again, if ever.

        Raises TunnelError when the Kubernetes API fails; all other failures become part of the status.
        Raises NotLeadingError, alone or in a group, when this process may not act any more.
        """
        world = self._world
        tunnel, is_certain = await self._newest(key), False
        for _ in range(MAX_ROUNDS):
            if tunnel is None or tunnel.is_gone:
                world.memory.forget(key)
                world.recorder.forget(key)
                world.rollout.forget(key)
                return None
            current = _Pass(tunnel, world, is_certain=is_certain)
            if not self._is_mine(current.klass):
                world.recorder.forget(key)
                return None
            now = world.clock()
            observed = await self._gather(current, now)
            decision = plan(tunnel, current.klass, observed, now, default_image=self._default_image)
            if world.memory.settle(key, decision.reached):
                continue
            world.cache.note_opening(key, is_open=decision.stage is not None)
            world.rollout.follow(key, _class_name(current), decision.stage, now)
            try:
                await self._reporter.say(current, decision)
            except ConflictError:
                # What was decided is not of the Tunnel as it is: the watch is late.
                tunnel, is_certain = await world.cluster.get_tunnel(key), True
                continue
            world.recorder.report(tunnel, decision.status, observed.failures)
            if not decision.branches:
                world.memory.settled(key)
                return decision.recheck_at
            await self._execute(current, decision)
            tunnel, is_certain = await self._newest(key, current.newest), False
        return stuck.put_off(world.memory, key, decision, world.clock())

    async def _newest(self, key: Key, written: Tunnel | None = None) -> Tunnel | None:
        """Return the Tunnel as the watch or a write of ours last brought it; None when the watch told of its end.

        It is not read for that: what is recorded on a state that has changed since is refused.
        """
        cache = self._world.cache
        if written is not None and (written.is_gone or cache.is_newest(written)):
            return written
        if not cache.has_tunnel(key):
            return None
        return cache.tunnel(key) or await self._world.cluster.get_tunnel(key)

    def _is_mine(self, klass: TunnelClass | None) -> bool:
        return klass is None or klass.spec.controller_name == self._controller_name

    async def _gather(self, current: _Pass, now: datetime) -> Observed:
        memory, tunnel = self._world.memory, current.tunnel
        generation = current.klass.metadata.generation if current.klass else None
        revision: Revision = (tunnel.metadata.uid, tunnel.metadata.generation, generation)
        remote = await self._look(current, memory.failures(current.key, revision), now)
        look = memory.look(current.key)
        answer = memory.answer(current.key)
        is_closed = memory.is_device_closed(current.key)
        if answer is None and tunnel.status.device is not None and not is_closed:
            answer = DeviceAnswer(tunnel.status.device)
        klass = current.klass
        # Nothing is waited for between this and noting that the tunnel is opened: no two take the same place.
        return Observed(
            has_place=klass is None or self._world.cache.has_place(tunnel, klass),
            hybrid_connection=remote,
            looked_at=look.at if look else None,
            children=self._world.cache.children_of(tunnel),
            routes=self._world.cache.routes,
            answer=answer,
            leased_at=memory.leased_at(current.key),
            announced=memory.announced(current.key),
            failures=memory.failures(current.key, revision),
            held=memory.held(current.key),
            namespace_labels=self._world.cache.namespace_labels(current.key.namespace),
            may_replace=self._world.rollout.has_turn(current.key, _class_name(current), now),
            is_class_gone=current.klass is None
            or not self._world.cache.has_class(current.klass.metadata.name),
            policy=(current.klass.spec.deletion_policy if current.klass else DeletionPolicy.DELETE),
        )

    async def _look(
        self, current: _Pass, failures: Mapping[Step, Failure], now: datetime
    ) -> HybridConnection | NoHybridConnection:
        """Ask Azure what is there, unless nothing can be, or asking has just failed."""
        world = self._world
        if not current.tunnel.has_finalizer:
            return NoHybridConnection.ABSENT
        if current.klass is None:
            return NoHybridConnection.UNKNOWN
        tunnel, klass, look = current.tunnel, current.klass.spec, world.memory.look(current.key)
        pod = world.cache.children_of(tunnel).get(Kind.POD)
        signs = looks.Signs(pod, world.memory.answer(current.key), failures)
        if look is not None and not looks.is_due(tunnel, klass, look, signs, now):
            # What is known will do after all: that asking for more failed says nothing any more.
            world.memory.succeed(current.key, Step.LOOK)
            return look.found
        failure = failures.get(Step.LOOK)
        if failure is not None and now < failure.retry_at:
            return NoHybridConnection.UNKNOWN
        name = names.hybrid_connection(tunnel, klass)
        is_own = klass.hybrid_connection_naming is Naming.TUNNEL
        with_rules = not is_own or looks.needs_rules(tunnel, look, signs, now)
        try:
            found = await world.relay.observe(klass, name, with_rules=with_rules)
        except TunnelError as error:
            self._failed(current, Step.LOOK, error)
            return NoHybridConnection.UNKNOWN
        world.memory.succeed(current.key, Step.LOOK)
        seen = NoHybridConnection.ABSENT if found is None else found
        rules_at = now if with_rules or look is None else look.rules_at
        world.memory.keep_look(current.key, Look(seen, now, rules_at))
        return seen

    async def _execute(self, current: _Pass, decision: Plan) -> None:
        done = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._execute_branch(current, branch))
                for branch in decision.branches
            ]
            group.create_task(self._reporter.meanwhile(current, decision, done))
            await asyncio.wait(tasks)
            done.set()

    async def _execute_branch(self, current: _Pass, branch: Branch) -> None:
        for action in branch:
            step = step_of(action)
            self._world.leadership.require()
            try:
                await self._act(current, action)
            except TunnelError as error:
                self._failed(current, step, error)
                return
            self._world.memory.succeed(current.key, step)
            log.debug("action.done", tunnel=str(current.key), action=type(action).__name__)

    def _failed(self, current: _Pass, step: Step, error: TunnelError) -> None:
        failure = self._world.memory.fail(current.key, step, error, self._world.clock())
        is_postponed = isinstance(error, Postponed)
        log.log(
            logging.DEBUG if is_postponed else logging.WARNING,
            "step.postponed" if is_postponed else "step.failed",
            tunnel=str(current.key),
            correlation_id=names.correlation_id(current.tunnel),
            step=step,
            reason=failure.reason,
            message=failure.message,
            attempts=failure.attempts,
            retry_at=failure.retry_at.isoformat(),
        )

    async def _act(self, current: _Pass, action: Action) -> None:
        world, tunnel = self._world, current.tunnel
        match action:
            case AddFinalizer():
                current.keep(await world.cluster.set_finalizer(tunnel, present=True))
                self._presume_nothing(current)
            case RemoveFinalizer():
                current.keep(await world.cluster.set_finalizer(tunnel, present=False))
            case ApplyForwarderPod(manifest, is_known):
                secret = world.cache.children_of(tunnel).get(Kind.SECRET)
                pod = with_secret_version(manifest, secret.version if secret else "")
                world.cache.put_child(await world.cluster.apply(pod, is_known=is_known))
            case ApplyObject(manifest, is_known):
                seen = await world.cluster.apply(manifest, is_known=is_known)
                world.cache.put_child(seen)
                stuck.heed_answer(world.memory, current.key, manifest, seen, world.clock())
            case DeleteObject():
                await self._delete_object(current, action)
            case _:
                assert current.klass is not None  # noqa: S101 - Azure is only planned for with a class
                await self._act_in_azure(current, current.klass, action)

    def _presume_nothing(self, current: _Pass) -> None:
        """Spare Azure the question for what nobody can have made: of a fleet's opening it is a sixth."""
        is_new = current.tunnel.status.hybrid_connection is None
        if is_new and current.klass is not None and names.is_new_for_each(current.klass.spec):
            self._keep_look(current, NoHybridConnection.ABSENT)

    async def _act_in_azure(self, current: _Pass, klass: TunnelClass, action: "_Remote") -> None:
        world, tunnel = self._world, current.tunnel
        match action:
            case EnsureHybridConnection():
                await self._ensure(current, klass, action)
                # What was made anew has new keys, and no listener: both ends have to be told again.
                world.memory.keep_lease(current.key, KEY_CHANGED)
                world.memory.keep_answer(current.key, None)
            case DeleteHybridConnection(name):
                with world.memory.changing(current.key):
                    await world.relay.delete(klass.spec, name)
                self._keep_look(current, NoHybridConnection.ABSENT)
            case RetainHybridConnection():
                with world.memory.changing(current.key):
                    await world.relay.retain(klass.spec, action)
            case DeleteRules(name, rules):
                with world.memory.changing(current.key):
                    await world.relay.delete_rules(klass.spec, name, rules)
            case OpenDevice():
                await self._open_device(current, klass, action)
            case CloseDevice(device):
                is_told = klass.spec.hybrid_connection_naming is Naming.TUNNEL
                request = ends.close_request(tunnel) if is_told else None
                await world.devices.close(klass.spec, device, request)
                world.memory.keep_closed(current.key)
            case ApplyForwarderSecret(manifest, name, expires_at, is_known):
                with world.memory.trusting_the_look(current.key):
                    token = await ends.token(
                        world.relay, klass, name, names.send_rule(tunnel), expires_at
                    )
                secret = with_token(manifest, token.reveal())
                world.cache.put_child(await world.cluster.apply(secret, is_known=is_known))
                world.memory.keep_lease(current.key, world.clock())
            case _:
                assert_never(action)

    async def _ensure(
        self, current: _Pass, klass: TunnelClass, action: EnsureHybridConnection
    ) -> None:
        with self._world.memory.changing(current.key):
            made = await self._world.relay.ensure(klass.spec, action)
        if made is not None:
            self._keep_look(current, made)

    def _keep_look(self, current: _Pass, found: HybridConnection | NoHybridConnection) -> None:
        now = self._world.clock()
        self._world.memory.keep_look(current.key, Look(found, now, now))

    async def _open_device(self, current: _Pass, klass: TunnelClass, action: OpenDevice) -> None:
        world = self._world

        async def make() -> OpenRequest | None:
            if not action.is_told:
                return None
            with world.memory.trusting_the_look(current.key):
                return await ends.open_request(world.relay, current.tunnel, klass, action)

        # What an earlier process found is in the status; what this one found, the guard knows.
        known = current.tunnel.status.condition(ConditionType.DEVICE_LISTENING)
        fault = next((f for f in FAULTS if known is not None and known.reason == f), None)
        ask = Ask(str(current.tunnel), make, fault)
        answer = await world.devices.open(klass.spec, action.device, ask)
        agreed = DeviceStatus(agent=answer.agent if answer else None, revision=action.revision)
        world.memory.keep_answer(current.key, DeviceAnswer(agreed, world.clock()))

    async def _delete_object(self, current: _Pass, action: DeleteObject) -> None:
        world = self._world
        left = await world.cluster.delete(
            current.key.namespace,
            action.kind,
            action.name,
            action.uid,
            is_forced=action.is_forced,
        )
        if left is not None:
            world.cache.put_child(left)
        else:
            gone = world.cache.children_of(current.tunnel).get(action.kind)
            if gone is not None and gone.uid == action.uid:
                world.cache.drop_child(gone.body, for_good=True)


_Remote = (
    EnsureHybridConnection
    | DeleteHybridConnection
    | RetainHybridConnection
    | DeleteRules
    | OpenDevice
    | CloseDevice
    | ApplyForwarderSecret
)


def _class_name(current: _Pass) -> str:
    return "" if current.klass is None else current.klass.metadata.name
