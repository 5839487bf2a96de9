"""Compares what the watches have brought with what there is, so that what a watch missed is missed for minutes only.

A watch that has to begin anew lists what is there, and nothing tells of what has gone meanwhile. One that
dies quietly tells nothing at all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Protocol

import structlog

from ..api.keys import Key
from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass
from ..core.observed import Kind
from ..errors import TunnelError
from .cache import Cache, owner_of

INTERVAL = timedelta(minutes=5)

Body = Mapping[str, Any]

log = structlog.get_logger(__name__)


class Inventory(Protocol):
    """Lists what there is now."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of children that can be listed."""

    async def tunnels(self) -> list[Body]:
        """Return the Tunnels that are served."""

    async def classes(self) -> list[Body] | None:
        """Return the TunnelClasses; None when they are not the cluster's."""

    async def namespaces(self) -> list[Body] | None:
        """Return the cluster's namespaces; None when they may not be read."""

    async def children(self, kind: Kind) -> list[Body]:
        """Return the objects of a kind that an operator made."""


class Resync:
    """Mends the cache, and has each Tunnel looked at of which it did not know the truth."""

    def __init__(self, cache: Cache, inventory: Inventory, add: Callable[[Key], None]) -> None:
        self._cache = cache
        self._inventory = inventory
        self._add = add

    async def run(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
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
        there = {klass.metadata.name: klass for klass in map(TunnelClass.from_dict, listed)}
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
        listed = {
            str(body["metadata"]["uid"]): body for body in await self._inventory.children(kind)
        }
        for uid in known.keys() - listed.keys():
            self._missed([self._cache.drop_child(known[uid])], f"a {kind} that is gone")
        for uid, body in listed.items():
            key = owner_of(body)
            before = None if key is None else self._cache.children(key).get(kind)
            self._cache.put_child(body)
            after = None if key is None else self._cache.children(key).get(kind)
            if after is not None and (before is None or after.version != before.version):
                self._missed([key], f"a {kind} that was changed", uid=uid)

    async def _compare_tunnels(self) -> None:
        known = set(self._cache.tunnels())
        listed = {_key(body): body for body in await self._inventory.tunnels()}
        for key in known - listed.keys():
            self._cache.drop_tunnel(key)
            self._missed([key], "a Tunnel that is gone")
        for key, body in listed.items():
            self._cache.put_tunnel(Tunnel.from_dict(body))
            if not _is_seen_to(body):
                # Most often because it is being worked on, and then this costs nothing.
                self._add(key)

    def _missed(self, keys: Iterable[Key | None], what: str, **more: Any) -> None:
        for key in list(keys):
            if key is not None:
                log.info("resync.missed", tunnel=str(key), what=what, **more)
                self._add(key)


def _key(body: Body) -> Key:
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


def _is_seen_to(body: Body) -> bool:
    """Tell whether the status is of the spec as it is, and nobody has asked for the Tunnel's end."""
    seen = (body.get("status") or {}).get("observedGeneration")
    return seen == body["metadata"]["generation"] and "deletionTimestamp" not in body["metadata"]
