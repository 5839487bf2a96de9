"""What the watches have brought, and what our own writes returned: the newest of both, for reading.

Without the second half a pass would not see what the one before it made, and would make it again.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

from ..api.keys import Key
from ..api.tunnel import KIND as TUNNEL_KIND
from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass
from ..core.names import TUNNEL_LABEL
from ..core.observed import Child, Kind

Body = Mapping[str, Any]

SHORT = 40

_UNREAD: Mapping[str, tuple[str, ...]] = {Kind.SECRET: ("data",), Kind.POD: ("spec",)}


class Cache:
    """Classes, the children of tunnels, and which tunnels there are. Bounded by what the cluster holds."""

    def __init__(self) -> None:
        self._children: dict[Key, dict[Kind, Body]] = {}
        self._classes: dict[str, TunnelClass] = {}
        self._tunnels: dict[Key, str | None] = {}
        self._written: dict[Key, dict[str, int]] = {}

    def put_child(self, body: Body) -> Key | None:
        """Take a child's newest state; return its tunnel's key. An older state than known is passed over."""
        key, kind = owner_of(body), Kind(body["kind"])
        if key is None:
            return None
        known = self._children.setdefault(key, {}).get(kind)
        if known is None or _version(known) <= _version(body):
            self._children[key][kind] = _lean(body)
        return key

    def put_written(self, body: Body) -> None:
        """Take a child as a write of ours returned it."""
        key = self.put_child(body)
        if key is not None:
            self._written.setdefault(key, {})[body["kind"]] = _version(body)

    def wrote_tunnel(self, key: Key, version: str) -> None:
        """Note the version of a Tunnel that a write of ours returned, and that has been looked at."""
        if version:
            self._written.setdefault(key, {})[TUNNEL_KIND] = int(version)

    def is_echo(self, key: Key, body: Body) -> bool:
        """Tell whether a watch brings what is known already, from our own later or same write.

        That write's answer showed the whole object, and the pass that wrote it went on with that.
        """
        written = self._written.get(key, {}).get(body["kind"])
        return written is not None and _version(body) <= written

    def drop_child(self, body: Body) -> Key | None:
        """Forget a child that is gone, unless a later one has taken its name; return its tunnel's key."""
        key, kind = owner_of(body), Kind(body["kind"])
        if key is None:
            return None
        known = self._children.get(key, {}).get(kind)
        if known is not None and known["metadata"]["uid"] == body["metadata"]["uid"]:
            del self._children[key][kind]
            self._written.get(key, {}).pop(kind, None)
            if not self._children[key]:
                del self._children[key]
        return key

    def children(self, key: Key) -> Mapping[Kind, Child]:
        """Return the children of one tunnel."""
        return {kind: Child(body) for kind, body in self._children.get(key, {}).items()}

    def put_class(self, klass: TunnelClass) -> None:
        """Take a class's newest state."""
        self._classes[klass.metadata.name] = klass

    def drop_class(self, name: str) -> None:
        """Forget a class that is gone."""
        self._classes.pop(name, None)

    def class_of(self, tunnel: Tunnel) -> TunnelClass | None:
        """Return a tunnel's class; of several default classes the first by name."""
        name = tunnel.spec.tunnel_class_name
        if name is not None:
            return self._classes.get(name)
        defaults = (k for k in self._classes.values() if k.is_default)
        return min(defaults, key=lambda klass: klass.metadata.name, default=None)

    def classes(self) -> list[TunnelClass]:
        """Return all classes."""
        return list(self._classes.values())

    def put_tunnel(self, key: Key, class_name: str | None) -> None:
        """Note that a tunnel is there."""
        self._tunnels[key] = class_name

    def drop_tunnel(self, key: Key) -> None:
        """Forget a tunnel that is gone."""
        self._tunnels.pop(key, None)
        self._written.pop(key, None)

    def tunnels_of(self, class_name: str) -> Iterator[Key]:
        """Yield the tunnels that a class may be the class of."""
        return (key for key, name in self._tunnels.items() if name in (None, class_name))

    def __len__(self) -> int:
        return len(self._tunnels)


def owner_of(body: Body) -> Key | None:
    """Return the key of the tunnel that a child's label names."""
    metadata = body["metadata"]
    name = (metadata.get("labels") or {}).get(TUNNEL_LABEL)
    return None if name is None else Key(metadata["namespace"], name)


def _version(body: Body) -> int:
    # Versions of one kind may be compared as numbers since Kubernetes 1.35 (KEP-5504), and in etcd ever.
    return int(body["metadata"].get("resourceVersion") or 0)


def _lean(body: Body) -> Body:
    """Return a child without what no decision needs: tokens, a Pod's long spec, who set which field."""
    metadata = {k: v for k, v in body["metadata"].items() if k != "managedFields"}
    unread = _UNREAD.get(body["kind"], ())
    rest = {k: v for k, v in body.items() if k not in unread}
    if body["kind"] == Kind.POD:
        rest["status"] = _lean_pod_status(body.get("status") or {})
    return cast("Body", _interned({**rest, "metadata": metadata}))


def _interned(value: object) -> object:
    """Return JSON-like data whose names and short words are the same objects in all that is kept.

    Most of what a thousand Services hold is the same in each; this halves what they take.
    """
    match value:
        case str() if len(value) <= SHORT:
            return sys.intern(value)
        case dict():
            return {sys.intern(name): _interned(part) for name, part in value.items()}
        case list():
            return [_interned(part) for part in value]
        case _:
            return value


def _lean_pod_status(status: Body) -> Body:
    kept = {name: status[name] for name in ("phase", "message") if name in status}
    kept["conditions"] = [
        {name: condition[name] for name in ("type", "status", "message") if name in condition}
        for condition in status.get("conditions") or ()
    ]
    kept["containerStatuses"] = [
        {name: container[name] for name in ("state", "lastState") if name in container}
        for container in status.get("containerStatuses") or ()
    ]
    return kept
