"""Many tunnels over simulated days: people edit, things fail, and what must hold is looked at all the time.

The reconciler is the real one, in the model world, whose clock is moved from one wish of the operator's to be
called to the next. All chance comes from one seed.
"""

import asyncio
import heapq
import logging
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count

import structlog

from support.operator_azure import HOST
from support.operator_world import Crash, ended_status, only_crashed
from support.tunnels import class_body, tunnel_body
from support.week_invariants import Invariants
from support.week_world import FailingWorld
from tunnel_azure_sim.faults import ArmFailure
from tunnel_operator.api.keys import Key
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.api.tunnel_class import TunnelClass
from tunnel_operator.core.observed import Kind
from tunnel_operator.errors import TunnelError

RECOVERY = timedelta(seconds=45)
"""After a fault: no step that failed waits longer for its next try, with the looks that follow."""

CALM = timedelta(minutes=6)
"""After this long without faults everything has been looked at once, and is as it should be."""

TTLS = ("30s", "5m", "30m", "2h", "6h")
LOSABLE = (
    "PUT hybridConnection",
    "PUT authorizationRule",
    "DELETE hybridConnection",
    "POST listKeys",
)
"""Calls whose answer may get lost."""

FAULT_MINUTES = (0.1, 1, 5, 20)


@dataclass(frozen=True)
class Scale:
    """How much of it."""

    tunnels: int
    span: timedelta
    edit_every: timedelta
    fault_every: timedelta
    calm_every: timedelta = timedelta(hours=6)


class Week:
    """One run. `seen` counts what happened, for people."""

    def __init__(self, scale: Scale, seed: int) -> None:
        self.scale = scale
        self.chance = random.Random(seed)  # noqa: S311 - chooses, keeps no secret
        self.world = FailingWorld()
        self.seen: Counter[str] = Counter()
        self._began = self.world.now
        self._uids = count(1)
        self._due: list[tuple[datetime, int, Key]] = []
        self._order = count()
        self._wanted: dict[Key, datetime] = {}
        self._failed: Counter[Key] = Counter()
        self._is_down = False
        self._stumbling = 0
        self._able_since = self.world.now
        self._heals: list[tuple[datetime, int, Callable[[], None]]] = []
        self._invariants = Invariants(self.world, self.seen, self._is_able)
        self._names = [f"mri-{number}" for number in range(scale.tunnels)]
        self.world.azure.online.update(self._names)

    async def run(self) -> None:
        """Let the time pass. Raises AssertionError as soon as something does not hold."""
        end = self._began + self.scale.span
        happenings = self._happenings()
        calm_at = self._began + self.scale.calm_every
        for moment, happen in happenings:
            if moment > end:
                break
            await self._pass_until(moment)
            await happen()
            self._invariants.look()
            if moment >= calm_at:
                await self._calm_down()
                calm_at = self.world.now + self.scale.calm_every
        await self._calm_down()

    def _happenings(self) -> Iterator[tuple[datetime, Callable[[], Coroutine[None, None, None]]]]:
        """Yield what people and faults do, in the order of time."""
        edit_at = fault_at = self._began
        while True:
            if edit_at <= fault_at:
                yield max(edit_at, self.world.now), self._edit
                edit_at += self.scale.edit_every * self.chance.expovariate(1)
            else:
                yield max(fault_at, self.world.now), self._fail
                fault_at += self.scale.fault_every * self.chance.expovariate(1)

    async def _pass_until(self, moment: datetime) -> None:
        while True:
            next_heal = self._heals[0][0] if self._heals else None
            next_due = self._due[0][0] if self._due and not self._is_down else None
            times = [t for t in (next_heal, next_due) if t is not None and t <= moment]
            if not times:
                break
            self.world.now = max(self.world.now, min(times))
            if next_heal is not None and next_heal == min(times):
                heapq.heappop(self._heals)[2]()
                continue
            at, _, key = heapq.heappop(self._due)
            if self._wanted.get(key) == at:
                del self._wanted[key]
                await self._work_on(key)
        self.world.now = max(self.world.now, moment)

    async def _work_on(self, key: Key) -> None:
        """Run passes over one tunnel, and its node, until nothing more comes of it."""
        for _ in range(8):
            if self._is_down:
                return
            before = self.world.cluster.tunnels.get(key)
            try:
                again_at = await self.world.reconcile(key)
            except (Crash, BaseExceptionGroup) as error:
                only_crashed(error)
                self.seen["crashes"] += 1
                self._start_operator()
                return
            except TunnelError:
                self._failed[key] += 1
                again_at = self.world.now + timedelta(seconds=min(2 ** self._failed[key], 30))
            else:
                self._failed.pop(key, None)
            self.seen["passes"] += 1
            if before is not None and key not in self.world.cluster.tunnels:
                self._invariants.sweep(Tunnel.from_dict(before))
            if again_at is not None:
                self._wake(key, again_at)
            self._invariants.keep_tokens(key)
            if not self._run_node(key):
                return
        raise AssertionError(f"{key} does not settle")

    def _wake(self, key: Key, at: datetime) -> None:
        known = self._wanted.get(key)
        if known is None or at < known:
            self._wanted[key] = at
            heapq.heappush(self._due, (at, next(self._order), key))

    def _run_node(self, key: Key) -> bool:
        """Let the node and the device do what they do by themselves; whether a Pod changed."""
        self.world.end_listeners()
        body = self.world.child(key, Kind.POD)
        if body is None:
            return False
        before = body["metadata"]["resourceVersion"]
        self.world._run_pod(body)
        return bool(body["metadata"]["resourceVersion"] != before)

    # What people do.

    async def _edit(self) -> None:
        if self.world.is_api_away:
            return
        key = Key("imaging", self.chance.choice(self._names))
        if key not in self.world.cluster.tunnels:
            self.seen["created"] += 1
            body = tunnel_body(key.name, uid=f"{next(self._uids):08d}-uid", ttl=self._ttl())
            self.world.apply(body)
        elif self.chance.random() < 0.2:
            self.seen["deleted"] += 1
            self.world.delete(key)
        elif self.chance.random() < 0.04:
            await self._edit_class()
            return
        else:
            self._change(key)
        await self._work_on(key)

    def _change(self, key: Key) -> None:
        spec = self.world.cluster.tunnels[key]["spec"]
        change = self.chance.choice(
            (
                {"ttl": self._ttl()},
                {"suspend": not spec.get("suspend", False)},
                {"renewals": spec.get("renewals", 0) + 1},
                {"ports": [{"name": "ssh", "port": self.chance.choice((22, 2222))}]},
                {},
            )
        )
        self.seen["changed " + (next(iter(change), "nothing"))] += 1
        self.world.apply(tunnel_body(key.name, **{**spec, **change}))

    async def _edit_class(self) -> None:
        self.seen["class changed"] += 1
        before = self.world.classes[0].metadata.generation
        limits = {"maxTTL": self.chance.choice(("1h", "6h", "12h")), "defaultTTL": "30m"}
        body = class_body(limits=limits, forwarder={"image": f"f:{self.chance.randrange(3)}"})
        body["metadata"]["generation"] = before + 1
        self.world.classes[:] = [TunnelClass.from_dict(body)]
        self.world.cache.put_class(self.world.classes[0])
        for key in self.world.names():
            await self._work_on(key)

    def _ttl(self) -> str:
        return self.chance.choice(TTLS)

    # What fails.

    async def _fail(self) -> None:
        fault = self.chance.choice(
            (
                self._crash,
                self._azure_away,
                self._azure_stumbles,
                self._api_away,
                self._operator_down,
                self._device_offline,
                self._device_reboots,
                self._device_cut_off,
                self._child_deleted,
                self._forwarder_ends,
                self._connection_deleted,
            )
        )
        self.seen[fault.__name__.strip("_")] += 1
        await fault()

    async def _crash(self) -> None:
        self.world.crash_at = self.world.steps + self.chance.randrange(14)

    async def _azure_away(self) -> None:
        self.world.azure.outage = True
        self._heal_later(self._azure_back)

    def _azure_back(self) -> None:
        self.world.azure.outage = False
        self._able_since = self.world.now

    async def _azure_stumbles(self) -> None:
        """Let the next few calls fail, or what they do go unheard; what was done before them stays done."""
        status = self.chance.choice((429, 500, 503, 504))
        times = self.chance.randrange(1, 6)
        retry_after = self.chance.choice((None, 5))
        faults = self.world.azure.arm.faults
        faults.add(
            ArmFailure(
                status, nth=self.chance.randrange(1, 6), times=times, retry_after=retry_after
            )
        )
        self.world.azure.arm.transport.lost[self.chance.choice(LOSABLE)] += times
        self._stumbling += 1
        self._heal_later(self._azure_steady)

    def _azure_steady(self) -> None:
        self._stumbling -= 1
        if not self._stumbling:
            self.world.azure.arm.faults.clear()
            self.world.azure.arm.transport.lost.clear()
        self._able_since = self.world.now

    async def _api_away(self) -> None:
        self.world.is_api_away = True
        self._heal_later(self._api_back)

    def _api_back(self) -> None:
        self.world.is_api_away = False
        self._able_since = self.world.now

    async def _operator_down(self) -> None:
        self._is_down = True
        self._heal_later(self._start_operator)

    def _start_operator(self) -> None:
        """Start a process that knows nothing, and is told of all tunnels by its first listing."""
        self.world.crash_at = None
        self.world.start_operator()
        self._is_down = False
        self._able_since = self.world.now
        for key in self.world.names():
            self._wake(key, self.world.now)

    async def _device_offline(self) -> None:
        device = self.chance.choice(self._names)
        self.world.azure.online.discard(device)
        self._heal_later(lambda: self.world.azure.online.add(device))

    async def _device_reboots(self) -> None:
        device = self.chance.choice(self._names)
        if device in self.world.azure.listening:
            self.world.azure.stop_listening(device)
            await self._notice(Key("imaging", device))

    async def _device_cut_off(self) -> None:
        """Break a device's network: afterwards it listens by itself for what it was told, if it still may."""
        device = self.chance.choice(self._names)
        told = self.world.azure.listening.get(device)
        self.world.azure.online.discard(device)
        self.world.azure.stop_listening(device)
        await self._notice(Key("imaging", device))

        def come_back() -> None:
            azure = self.world.azure
            azure.online.add(device)
            if told is not None and device not in azure.listening and azure.may_listen(HOST, told):
                azure.listen(device, HOST, told.hybrid_connection, told)
                self._wake(Key("imaging", device), self.world.now)

        self._heal_later(come_back)

    async def _child_deleted(self) -> None:
        where = self._any(self.world.cluster.children)
        if where is not None:
            body = self.world.cluster.children.pop(where)
            self.world.cache.drop_child(body)
            await self._work_on(Key("imaging", body["metadata"]["labels"]["tunnels.dev/tunnel"]))

    async def _forwarder_ends(self) -> None:
        pods = [w for w in self.world.cluster.children if w[1] is Kind.POD]
        where = self._any(pods)
        if where is not None:
            body = self.world.cluster.children[where]
            body["status"] = ended_status(self.chance.choice(("Idle", "Failed", "Drained")))
            self.world.cluster.touch(body)
            self.world.cluster.feed(self.world.cache)
            await self._work_on(Key("imaging", body["metadata"]["labels"]["tunnels.dev/tunnel"]))

    async def _connection_deleted(self) -> None:
        name = self._any(self.world.azure.connections)
        if name is not None:
            before = self.world.azure.listening
            self.world.azure.remove(name)
            for device in before.keys() - self.world.azure.listening:
                await self._notice(Key("imaging", device))

    async def _notice(self, key: Key) -> None:
        """Let the Pod's readiness change, and the watch tell the operator of it."""
        if self._run_node(key):
            await self._work_on(key)

    def _heal_later(self, heal: Callable[[], None]) -> None:
        after = timedelta(minutes=self.chance.choice(FAULT_MINUTES))
        heapq.heappush(self._heals, (self.world.now + after, next(self._order), heal))

    def _any(self, found: object) -> object:
        choices = list(found)
        return self.chance.choice(choices) if choices else None

    # What must hold.

    def _is_able(self) -> bool:
        """Whether the operator has been up, with all that it needs, for long enough to have caught up."""
        is_away = self.world.azure.outage or self.world.is_api_away
        is_hindered = is_away or self._stumbling > 0 or self._is_down
        return not is_hindered and self.world.now >= self._able_since + RECOVERY

    async def _calm_down(self) -> None:
        """End all faults, wait, and see that everything is exactly as it should be."""
        self.seen["calm moments"] += 1
        for _, _, heal in sorted(self._heals, key=lambda entry: entry[:2]):
            heal()
        self._heals.clear()
        self.world.crash_at = None
        await self._pass_until(self.world.now + CALM)
        self._invariants.look_when_calm()


def live_through(scale: Scale, seed: int) -> Counter[str]:
    """Run it; return what happened. The seed is part of every failure."""
    # A week has hundreds of thousands of lines.
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    week = Week(scale, seed)
    try:
        asyncio.run(week.run())
    except (AssertionError, ExceptionGroup) as error:
        at = week.world.now - week._began
        raise AssertionError(f"seed {seed}, after {at}: {error}") from error
    return week.seen
