"""Compares what the watches have brought with what there is: before the first pass, and every few minutes.

The first time it makes sure that all is known before anything is decided. After that it bounds for how long
something is missed: a watch that has to begin anew lists what is there, and nothing tells of what has gone
meanwhile; one that dies quietly tells nothing at all.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Protocol

import structlog

from ..api.base import UnreadableError
from ..api.keys import Key
from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass
from ..core import backoff
from ..core.observed import Kind
from ..errors import TunnelError
from .cache import Cache

INTERVAL = timedelta(minutes=5)

Body = Mapping[str, Any]
Sleep = Callable[[float], Awaitable[None]]

log = structlog.get_logger(__name__)


class Inventory(Protocol):
    """Lists what there is now."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of children that can be listed."""

    def tunnels(self) -> AsyncIterator[Body]:
        """Yield the Tunnels that are served."""

    async def classes(self) -> list[Body] | None:
        """Return the TunnelClasses; None when they are not the cluster's."""

    async def namespaces(self) -> list[Body] | None:
        """Return the cluster's namespaces; None when they may not be read."""

    def children(self, kind: Kind) -> AsyncIterator[Body]:
        """Yield the objects of a kind that an operator made."""


class Resync:
    """Mends the cache, and has each Tunnel looked at of which it did not know the truth."""

    def __init__(self, cache: Cache, inventory: Inventory, add: Callable[[Key], None]) -> None:
        self._cache = cache
        self._inventory = inventory
        self._add = add
        self._is_filled = False

    async def fill(self, sleep: Sleep = asyncio.sleep) -> int:
        """Return once all is known that there is, and have every Tunnel looked at. Tries until it can.

        Return how many there are.
        """
        for attempt in itertools.count(1):
            try:
                await self.compare()
                break
            except TunnelError as error:
                log.warning("resync.failed", reason=error.reason, message=error.message)
                await sleep(backoff.delay(attempt, 0.0).total_seconds())
        self._is_filled = True
        tunnels = self._cache.tunnels()
        for key in tunnels:
            self._add(key)
        return len(tunnels)

    async def run(self, sleep: Sleep = asyncio.sleep) -> None:
        """Compare every few minutes, for ever."""
        while True:
            await sleep(INTERVAL.total_seconds())
            try:
                await self.compare()
            except TunnelError as error:
                log.warning("resync.failed", reason=error.reason, message=error.message)

    async def compare(self) -> None:
        """Compare once. Raises TunnelError."""
        await self._compare_classes()
        await self._compare_namespaces()
        for kind in self._inventory.kinds:
            await self._compare_children(kind)
        await self._compare_tunnels()

    async def _compare_classes(self) -> None:
        known = {klass.metadata.name: klass for klass in self._cache.classes()}
        listed = await self._inventory.classes()
        if listed is None:
            return
        there = {klass.metadata.name: klass for klass in _readable_classes(listed)}
        for name in known.keys() - there.keys():
            self._cache.drop_class(name)
            self._missed(self._cache.tunnels_of(name), "a class that is gone")
        for name, klass in there.items():
            if name not in known or known[name].metadata.uid != klass.metadata.uid:
                is_news = True
            else:
                is_news = known[name].metadata.generation < klass.metadata.generation
            if is_news:
                self._cache.put_class(klass)
                self._missed(self._cache.tunnels_of(name), "a class that was changed")

    async def _compare_namespaces(self) -> None:
        for body in await self._inventory.namespaces() or ():
            name, labels = body["metadata"]["name"], body["metadata"].get("labels") or {}
            if self._cache.namespace_labels(name) != labels:
                self._cache.put_namespace(name, labels)
                self._missed(self._cache.tunnels_in(name), "a namespace that was changed")

    async def _compare_children(self, kind: Kind) -> None:
        # Known before the list is made: what comes later is not in it, and not gone.
        known = {str(body["metadata"]["uid"]): body for body in self._cache.bodies(kind)}
        async for body in self._inventory.children(kind):
            uid = str(body["metadata"]["uid"])
            known.pop(uid, None)
            self._missed([self._cache.put_child(body)], f"a {kind} that was changed", uid=uid)
        for body in known.values():
            self._missed([self._cache.drop_child(body)], f"a {kind} that is gone")

    async def _compare_tunnels(self) -> None:
        known = self._cache.tunnels()
        async for body in self._inventory.tunnels():
            key = _key(body)
            known.pop(key, None)
            if self._cache.is_news(key, body["metadata"].get("resourceVersion")):
                try:
                    self._cache.put_tunnel(Tunnel.from_dict(body))
                except UnreadableError as error:
                    # All others are worth more than this one.
                    log.warning("tunnel.unreadable", tunnel=str(key), message=str(error))
                    continue
            if not _is_seen_to(body):
                # Most often because it is being worked on, and then this costs nothing.
                self._add(key)
        for key, (uid, version) in known.items():
            self._cache.drop_tunnel(key, uid, version)
            self._missed([key], "a Tunnel that is gone")

    def _missed(self, keys: Iterable[Key | None], what: str, **more: Any) -> None:
        # Before all is known there is nothing that one could have missed.
        level = logging.INFO if self._is_filled else logging.DEBUG
        for key in list(keys):
            if key is not None:
                log.log(level, "resync.missed", tunnel=str(key), what=what, **more)
                self._add(key)


def _readable_classes(bodies: Iterable[Body]) -> Iterator[TunnelClass]:
    """Yield the classes but those that this version can not read, which count as not there."""
    for body in bodies:
        try:
            yield TunnelClass.from_dict(body)
        except UnreadableError as error:
            name = body["metadata"]["name"]
            log.warning("class.unreadable", tunnel_class=name, message=str(error))


def _key(body: Body) -> Key:
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def _is_seen_to(body: Body) -> bool:
    """Tell whether the status is of the spec as it is, and nobody has asked for the Tunnel's end."""
    seen = (body.get("status") or {}).get("observedGeneration")
    return seen == body["metadata"]["generation"] and "deletionTimestamp" not in body["metadata"]
