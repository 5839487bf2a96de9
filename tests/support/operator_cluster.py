"""An API server for the model world: it keeps Tunnels and their children, and has no watches.

It keeps the promises of runtime.ports: applies merge into one object with a uid and a version, deletes respect uids.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from tunnel_operator.api.base import format_time
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import FINALIZER, Tunnel, TunnelStatus
from tunnel_operator.core.observed import Kind
from tunnel_operator.errors import ConflictError, Retryable, Terminal
from tunnel_operator.runtime.cache import Cache

Hook = Callable[[str], None]
"""Is told of each call before it has any effect, and may raise."""


def sent(body: Any) -> Any:
    """Return what the other end of the API gets: a copy, of what JSON knows alone."""
    return json.loads(json.dumps(body))


@dataclass
class FakeCluster:
    """The API server's part, without watches: `feed` brings the cache what they would."""

    clock: Callable[[], datetime]
    hook: Hook
    tunnels: dict[Key, dict[str, Any]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    children: dict[tuple[str, Kind, str], dict[str, Any]] = field(default_factory=dict)
    writes: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    is_node_dead: bool = False
    """No node confirms the end of a Pod."""

    serial: "count[int]" = field(default_factory=lambda: count(100))

    async def get_tunnel(self, key: Key) -> Tunnel | None:
        self.reads += 1
        body = self.tunnels.get(key)
        return None if body is None else Tunnel.from_dict(sent(body))

    async def apply_status(
        self, tunnel: Tunnel, status: TunnelStatus, *, only_unchanged: bool
    ) -> Tunnel | None:
        self.hook("apply_status")
        body = self._current(tunnel)
        if body is None:
            return None
        version = body["metadata"].get("resourceVersion", "")
        if only_unchanged and version != tunnel.metadata.resource_version:
            raise ConflictError(Reason.UNAVAILABLE, "The object has been modified.")
        self.writes["status"] += 1
        body["status"] = status.to_dict()
        self.touch(body)
        return Tunnel.from_dict(sent(body))

    async def set_finalizer(self, tunnel: Tunnel, *, present: bool) -> Tunnel | None:
        self.hook("add_finalizer" if present else "remove_finalizer")
        body = self._current(tunnel)
        if body is None:
            return None
        self.writes["finalizer"] += 1
        others = [f for f in body["metadata"].get("finalizers") or () if f != FINALIZER]
        body["metadata"]["finalizers"] = [*others, FINALIZER] if present else others
        self.touch(body)
        if not present and not others and "deletionTimestamp" in body["metadata"]:
            del self.tunnels[Key(tunnel.metadata.namespace, tunnel.metadata.name)]
            self._collect_garbage(tunnel.metadata.uid)
            return None
        return Tunnel.from_dict(sent(body))

    async def apply(self, manifest: Mapping[str, Any], *, is_known: bool) -> Mapping[str, Any]:
        self.hook(f"apply_{manifest['kind']}")
        metadata = manifest["metadata"]
        where = (metadata["namespace"], Kind(manifest["kind"]), metadata["name"])
        there = self.children.get(where)
        if there is not None:
            _refuse_foreign(there["metadata"], metadata, is_known=is_known)
        self.writes[manifest["kind"]] += 1
        body = sent(manifest)
        kept = there["metadata"] if there else {}
        is_changed = there is None or there.get("spec") != body.get("spec")
        body["metadata"] |= {
            "uid": kept.get("uid") or f"child-{next(self.serial)}",
            "generation": kept.get("generation", 0) + is_changed,
            "creationTimestamp": kept.get("creationTimestamp") or format_time(self.clock()),
            "resourceVersion": str(next(self.serial)),
        }
        body["status"] = there.get("status", {}) if there else {}
        self.children[where] = body
        return sent(body)

    async def delete(
        self, namespace: str, kind: Kind, name: str, uid: str, *, is_forced: bool
    ) -> Mapping[str, Any] | None:
        self.hook(f"delete_{kind}")
        there = self.children.get((namespace, kind, name))
        if there is None or there["metadata"]["uid"] != uid:
            return None
        self.writes[f"delete {kind}"] += 1
        if kind is Kind.POD and self.is_node_dead and not is_forced:
            return sent(self.begin_to_end(there))
        del self.children[namespace, kind, name]
        return None

    def begin_to_end(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Give a Pod its grace period, after which its node should confirm that it has ended."""
        grace = timedelta(seconds=pod["spec"]["terminationGracePeriodSeconds"])
        pod["metadata"].setdefault("deletionTimestamp", format_time(self.clock() + grace))
        self.touch(pod)
        return pod

    def feed(self, cache: Cache) -> None:
        """Bring the cache up to date, as a fresh listing would."""
        for name, labels in self.namespaces.items():
            cache.put_namespace(name, labels)
        for body in self.tunnels.values():
            cache.put_tunnel(Tunnel.from_dict(body))
        for body in self.children.values():
            cache.put_child(sent(body))

    def child(self, kind: Kind) -> dict[str, Any] | None:
        """Return the one child of a kind."""
        found = [body for (_, k, _), body in self.children.items() if k is kind]
        assert len(found) <= 1
        return found[0] if found else None

    def touch(self, body: dict[str, Any]) -> None:
        """Give a changed object its next version."""
        body["metadata"]["resourceVersion"] = str(next(self.serial))

    def _current(self, tunnel: Tunnel) -> dict[str, Any] | None:
        body = self.tunnels.get(Key(tunnel.metadata.namespace, tunnel.metadata.name))
        return body if body and body["metadata"]["uid"] == tunnel.metadata.uid else None

    def _collect_garbage(self, uid: str) -> None:
        self.children = {
            where: body
            for where, body in self.children.items()
            if body["metadata"]["ownerReferences"][0]["uid"] != uid
        }


def _refuse_foreign(there: Mapping[str, Any], wanted: Mapping[str, Any], *, is_known: bool) -> None:
    """Refuse as the operator does when it has looked, and as the API server does otherwise."""
    [mine], owners = wanted["ownerReferences"], there.get("ownerReferences") or ()
    if all(owner["uid"] == mine["uid"] for owner in owners) and (owners or is_known):
        return
    if is_known:
        raise Terminal(Reason.REJECTED, "Only one reference can have Controller set to true.")
    is_namesakes = any(owner["name"] == mine["name"] for owner in owners)
    error = Retryable if is_namesakes else Terminal
    raise error(Reason.NAME_TAKEN, f"{wanted['name']} is not {mine['uid']}'s")
