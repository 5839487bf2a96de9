"""Gathering: from the cache, from memory, and from Azure where what is known of it is too old."""

from collections.abc import Mapping
from datetime import datetime

from ..api.tunnel_class import DeletionPolicy, Naming
from ..core import looks, names
from ..core.looks import Look
from ..core.observed import (
    DeviceAnswer,
    Failure,
    HybridConnection,
    Kind,
    NoHybridConnection,
    Observed,
    Step,
)
from ..errors import TunnelError
from .memory import Revision
from .world import Pass


async def gather(current: Pass, now: datetime) -> Observed:
    """Return all that a decision is made of. What Azure can not be asked becomes part of it, too."""
    world, tunnel = current.world, current.tunnel
    memory, klass = world.memory, current.klass
    generation = klass.metadata.generation if klass else None
    revision: Revision = (tunnel.metadata.uid, tunnel.metadata.generation, generation)
    remote = await _look(current, memory.failures(current.key, revision), now)
    look = memory.look(current.key)
    answer = memory.answer(current.key)
    is_closed = memory.is_device_closed(current.key)
    if answer is None and tunnel.status.device is not None and not is_closed:
        answer = DeviceAnswer(tunnel.status.device)
    # Nothing is waited for between this and noting that the tunnel is opened: no two take the same place.
    return Observed(
        has_place=klass is None or world.cache.has_place(tunnel, klass),
        hybrid_connection=remote,
        looked_at=look.at if look else None,
        children=world.cache.children_of(tunnel),
        routes=world.cache.routes,
        answer=answer,
        leased_at=memory.leased_at(current.key),
        announced=memory.announced(current.key),
        failures=memory.failures(current.key, revision),
        held=memory.held(current.key),
        namespace_labels=world.cache.namespace_labels(current.key.namespace),
        may_replace=world.rollout.has_turn(current.key, current.class_name, now),
        is_class_gone=klass is None or not world.cache.has_class(klass.metadata.name),
        policy=klass.spec.deletion_policy if klass else DeletionPolicy.DELETE,
    )


async def _look(
    current: Pass, failures: Mapping[Step, Failure], now: datetime
) -> HybridConnection | NoHybridConnection:
    """Ask Azure what is there, unless nothing can be, or asking has just failed."""
    world = current.world
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
        current.failed(Step.LOOK, error)
        return NoHybridConnection.UNKNOWN
    world.memory.succeed(current.key, Step.LOOK)
    seen = NoHybridConnection.ABSENT if found is None else found
    rules_at = now if with_rules or look is None else look.rules_at
    world.memory.keep_look(current.key, Look(seen, now, rules_at))
    return seen
