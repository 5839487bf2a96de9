"""What fails in a long run, and for how long: the operator, Azure, the API server, devices and what was made."""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from support.operator_azure import HOST
from support.operator_world import ended_status
from support.week_passage import Passage
from tunnel_azure_sim.faults import ArmFailure
from tunnel_operator.api.keys import Key
from tunnel_operator.core.observed import Kind

RECOVERY = timedelta(seconds=45)
"""After a fault: no step that failed waits longer for its next try, with the looks that follow."""

LOSABLE = (
    "PUT hybridConnection",
    "PUT authorizationRule",
    "DELETE hybridConnection",
    "POST listKeys",
)
"""Calls whose answer may get lost."""

FAULT_MINUTES = (0.1, 1, 5, 20)

T = TypeVar("T")


class Faults:
    """Let things fail, and heal. `seen` counts what failed."""

    def __init__(
        self, passage: Passage, names: list[str], chance: random.Random, seen: Counter[str]
    ) -> None:
        self.passage = passage
        self.world = passage.world
        self.chance = chance
        self.seen = seen
        self._names = names
        self._stumbling = 0

    def is_able(self) -> bool:
        """Tell whether the operator has been up, with all that it needs, for long enough to have caught up."""
        is_away = self.world.azure.outage or self.world.is_api_away
        is_hindered = is_away or self._stumbling > 0 or self.passage.is_down
        return not is_hindered and self.world.now >= self.passage.able_since + RECOVERY

    def end_all(self) -> None:
        """Heal what has failed, and let nothing be about to fail."""
        self.passage.hurry()
        self.world.crash_at = None

    async def fail(self) -> None:
        """Let one thing fail, of any kind."""
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
        self.passage.able_since = self.world.now

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
        self.passage.able_since = self.world.now

    async def _api_away(self) -> None:
        self.world.is_api_away = True
        self._heal_later(self._api_back)

    def _api_back(self) -> None:
        self.world.is_api_away = False
        self.passage.able_since = self.world.now

    async def _operator_down(self) -> None:
        self.passage.is_down = True
        self._heal_later(self.passage.start_operator)

    async def _device_offline(self) -> None:
        device = self.chance.choice(self._names)
        self.world.azure.online.discard(device)
        self._heal_later(lambda: self.world.azure.online.add(device))

    async def _device_reboots(self) -> None:
        device = self.chance.choice(self._names)
        if device in self.world.azure.listening:
            self.world.azure.stop_listening(device)
            await self.passage.notice(Key("imaging", device))

    async def _device_cut_off(self) -> None:
        """Break a device's network: afterwards it listens by itself for what it was told, if it still may."""
        device = self.chance.choice(self._names)
        told = self.world.azure.listening.get(device)
        self.world.azure.online.discard(device)
        self.world.azure.stop_listening(device)
        await self.passage.notice(Key("imaging", device))

        def come_back() -> None:
            azure = self.world.azure
            azure.online.add(device)
            if told is not None and device not in azure.listening and azure.may_listen(HOST, told):
                azure.listen(device, HOST, told.hybrid_connection, told)
                self.passage.wake(Key("imaging", device), self.world.now)

        self._heal_later(come_back)

    async def _child_deleted(self) -> None:
        where = self._any(self.world.cluster.children)
        if where is not None:
            body = self.world.cluster.children.pop(where)
            self.world.cache.drop_child(body)
            await self.passage.work_on(
                Key("imaging", body["metadata"]["labels"]["tunnels.dev/tunnel"])
            )

    async def _forwarder_ends(self) -> None:
        pods = [w for w in self.world.cluster.children if w[1] is Kind.POD]
        where = self._any(pods)
        if where is not None:
            body = self.world.cluster.children[where]
            body["status"] = ended_status(self.chance.choice(("Idle", "Failed", "Drained")))
            self.world.cluster.touch(body)
            self.world.cluster.feed(self.world.cache)
            await self.passage.work_on(
                Key("imaging", body["metadata"]["labels"]["tunnels.dev/tunnel"])
            )

    async def _connection_deleted(self) -> None:
        name = self._any(self.world.azure.connections)
        if name is not None:
            before = self.world.azure.listening
            self.world.azure.remove(name)
            for device in before.keys() - self.world.azure.listening:
                await self.passage.notice(Key("imaging", device))

    def _heal_later(self, heal: Callable[[], None]) -> None:
        after = timedelta(minutes=self.chance.choice(FAULT_MINUTES))
        self.passage.later(after, heal)

    def _any(self, found: Iterable[T]) -> T | None:
        choices = list(found)
        return self.chance.choice(choices) if choices else None
