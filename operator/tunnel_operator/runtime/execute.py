"""Executing: the one place where what is decided is done, in the cluster, in Azure and on the device."""

import asyncio
from typing import assert_never

import structlog

from tunnel_forwarder.protocol.method import OpenRequest

from ..api.reasons import ConditionType
from ..api.tunnel import DeviceStatus
from ..api.tunnel_class import Naming, TunnelClass
from ..core import names
from ..core.actions import (
    Action,
    AddFinalizer,
    ApplyForwarderPod,
    ApplyForwarderSecret,
    ApplyObject,
    Ask,
    AzureAction,
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
from ..core.manifests import with_secret_version, with_token
from ..core.observed import KEY_CHANGED, DeviceAnswer, Kind, NoHybridConnection
from ..errors import TunnelError
from . import ends, stuck
from .reporter import Reporter
from .world import Pass

log = structlog.get_logger(__name__)


async def execute(current: Pass, decision: Plan, reporter: Reporter) -> None:
    """Do what is decided, branches side by side, and let people know if that takes its time.

    Raises NotLeadingError in a group when this process may not act any more; all other failures are kept.
    """
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_execute_branch(current, branch)) for branch in decision.branches
        ]
        group.create_task(reporter.meanwhile(current, decision, done))
        await asyncio.wait(tasks)
        done.set()


async def _execute_branch(current: Pass, branch: Branch) -> None:
    for action in branch:
        step = step_of(action)
        current.world.leadership.require()
        try:
            await _act(current, action)
        except TunnelError as error:
            current.failed(step, error)
            return
        current.world.memory.succeed(current.key, step)
        log.debug("action.done", tunnel=str(current.key), action=type(action).__name__)


async def _act(current: Pass, action: Action) -> None:
    world, tunnel = current.world, current.tunnel
    match action:
        case AddFinalizer():
            current.keep(await world.cluster.set_finalizer(tunnel, present=True))
            _presume_nothing(current)
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
            await _delete_object(current, action)
        case _:
            assert current.klass is not None  # noqa: S101 - Azure is only planned for with a class
            await _act_in_azure(current, current.klass, action)


def _presume_nothing(current: Pass) -> None:
    """Spare Azure the question for what nobody can have made: of a fleet's opening it is a sixth."""
    is_new = current.tunnel.status.hybrid_connection is None
    if is_new and current.klass is not None and names.is_new_for_each(current.klass.spec):
        current.keep_look(NoHybridConnection.ABSENT)


async def _act_in_azure(current: Pass, klass: TunnelClass, action: AzureAction) -> None:
    world, tunnel = current.world, current.tunnel
    match action:
        case EnsureHybridConnection():
            await _ensure(current, klass, action)
            # What was made anew has new keys, and no listener: both ends have to be told again.
            world.memory.keep_lease(current.key, KEY_CHANGED)
            world.memory.keep_answer(current.key, None)
        case DeleteHybridConnection(name):
            with world.memory.changing(current.key):
                await world.relay.delete(klass.spec, name)
            current.keep_look(NoHybridConnection.ABSENT)
        case RetainHybridConnection():
            with world.memory.changing(current.key):
                await world.relay.retain(klass.spec, action)
        case DeleteRules(name, rules):
            with world.memory.changing(current.key):
                await world.relay.delete_rules(klass.spec, name, rules)
        case OpenDevice():
            await _open_device(current, klass, action)
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


async def _ensure(current: Pass, klass: TunnelClass, action: EnsureHybridConnection) -> None:
    with current.world.memory.changing(current.key):
        made = await current.world.relay.ensure(klass.spec, action)
    if made is not None:
        current.keep_look(made)


async def _open_device(current: Pass, klass: TunnelClass, action: OpenDevice) -> None:
    world = current.world

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


async def _delete_object(current: Pass, action: DeleteObject) -> None:
    world = current.world
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
