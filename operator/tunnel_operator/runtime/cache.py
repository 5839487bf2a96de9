"""What the watches have brought, and what our own writes returned: the newest of both, for reading.

Without the second half a pass would not see what the one before it made, and would make it again. The two
halves overtake each other: what a watch has reported gone is not brought back by an answer that came late. A
later state does bring it back: to a watch by label an object is gone, too, whose label was taken off.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from ..api.keys import Key
from ..api.tunnel import KIND, Tunnel
from ..api.tunnel_class import TunnelClass
from ..core.access import NAME_LABEL
from ..core.class_choice import class_name_of, default_class_name
from ..core.manifests import digests
from ..core.names import TUNNEL_LABEL
from ..core.observed import UNREAD, Child, Kind
from ..core.pods import what_is_read
from ..core.quota import Claim, Place, has_place, is_waiting, place_of

Body = Mapping[str, Any]

GONE_KEPT = 10_000
"""How many objects that are gone are remembered: more than can go while an answer is under way."""

FOR_GOOD = sys.maxsize
"""The version up to which an object is gone that is not there any more: no later one comes."""

SHORT = 40


@dataclass(frozen=True, slots=True)
class _Known:
    """What is kept of a tunnel: the class that it names, the one that it is bound to by that or by being open.

    `state` is all of it as JSON, which takes an eighth of the memory of objects. It is None where
    a write of ours has found what the watch has not brought yet.
    """

    uid: str
    named: str | None
    bound: str | None
    place: Place
    version: int
    state: bytes | None


class Cache:
    """Classes, the children of tunnels, and which tunnels there are. Bounded by what the cluster holds.

    `routes` are the kinds of routes that the cluster serves, and the apiVersion of each.
    """

    def __init__(
        self, routes: Mapping[Kind, str] | None = None, *, reads_namespaces: bool = True
    ) -> None:
        self.routes = routes or {}
        self._reads_namespaces = reads_namespaces
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._children: dict[Key, dict[Kind, Body]] = {}
        self._classes: dict[str, TunnelClass] = {}
        self._gone_classes: dict[str, TunnelClass] = {}
        self._tunnels: dict[Key, _Known] = {}
        self._opening: set[Key] = set()
        self._waiting: set[Key] = set()
        self._gone: OrderedDict[str, int] = OrderedDict()

    def put_child(self, body: Body) -> Key | None:
        """Take a child's newest state; return its tunnel's key if that is something to look at it for.

        No news is a state that is known: from a write of ours, whose pass went on with it, or because
        nothing has changed that a decision reads. An older state than known is passed over.
        """
        key, kind = owner_of(body), Kind(body["kind"])
        if key is None or self._is_gone(body["metadata"]["uid"], _version(body)):
            return None
        children = self._children.setdefault(key, {})
        known = children.get(kind)
        if known is not None and _version(known) >= _version(body):
            return None
        lean = children[kind] = _lean(body)
        return None if known is not None and _says_the_same(known, lean) else key

    def drop_child(self, body: Body, *, for_good: bool = False) -> Key | None:
        """Forget a child that is gone, unless a later one has taken its name or a later state is known.

        It is for good when it was found not to be there any more. A watch may mean that it has lost its
        label; then its next state, by which it has it back, is one of the same object.

        Return its tunnel's key if that is news.
        """
        key, kind, uid = owner_of(body), Kind(body["kind"]), body["metadata"]["uid"]
        if key is None or self._is_gone(body["metadata"]["uid"], _version(body)):
            return None
        known = self._children.get(key, {}).get(kind)
        is_known = known is not None and known["metadata"]["uid"] == uid
        if known is not None and is_known and _version(known) > _version(body):
            return None
        self._note_gone(uid, FOR_GOOD if for_good else _version(body))
        if is_known:
            del self._children[key][kind]
            if not self._children[key]:
                del self._children[key]
        return key

    def _note_gone(self, uid: str, version: int) -> None:
        self._gone[uid] = version
        self._gone.move_to_end(uid)
        if len(self._gone) > GONE_KEPT:
            self._gone.popitem(last=False)

    def _is_gone(self, uid: str, version: int) -> bool:
        """Tell whether an object's end came after this state of it."""
        return self._gone.get(uid, -1) >= version

    def children(self, key: Key) -> Mapping[Kind, Child]:
        """Return the children of all tunnels that have or had this key."""
        return {kind: Child(body) for kind, body in self._children.get(key, {}).items()}

    def children_of(self, tunnel: Tunnel) -> Mapping[Kind, Child]:
        """Return the children of this very tunnel, and of no earlier one of its name."""
        found = self.children(tunnel.key)
        return {kind: child for kind, child in found.items() if not child.is_anothers(tunnel)}

    def bodies(self, kind: Kind) -> list[Body]:
        """Return all children of a kind."""
        return [found[kind] for found in self._children.values() if kind in found]

    def put_class(self, klass: TunnelClass) -> None:
        """Take a class's newest state."""
        self._classes[klass.metadata.name] = klass
        self._gone_classes.pop(klass.metadata.name, None)

    def drop_class(self, name: str) -> None:
        """Note that a class is gone. What it said is kept for the tunnels that were opened with it."""
        klass = self._classes.pop(name, None)
        if klass is not None and any(self.tunnels_of(name)):
            self._gone_classes[name] = klass

    def class_of(self, tunnel: Tunnel) -> TunnelClass | None:
        """Return a tunnel's class, or what it last said when it is gone."""
        name = class_name_of(tunnel, self._classes.values())
        return None if name is None else self._classes.get(name) or self._gone_classes.get(name)

    def has_class(self, name: str) -> bool:
        """Tell whether there is such a class now."""
        return name in self._classes

    def classes(self) -> list[TunnelClass]:
        """Return the classes that there are now."""
        return list(self._classes.values())

    def classes_in_use(self) -> list[TunnelClass]:
        """Return all classes, with those that are gone and whose tunnels may not be."""
        return [*self._classes.values(), *self._gone_classes.values()]

    def put_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Take a namespace's newest labels."""
        self._namespaces[name] = dict(labels)

    def drop_namespace(self, name: str) -> None:
        """Forget a namespace that is gone."""
        self._namespaces.pop(name, None)

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """Return a namespace's labels, as far as they are known: where none may be read, its name is."""
        if not self._reads_namespaces:
            return {NAME_LABEL: name}
        return self._namespaces.get(name)

    def tunnels_in(self, namespace: str) -> Iterator[Key]:
        """Yield the tunnels of a namespace."""
        return (key for key in self._tunnels if key.namespace == namespace)

    def is_news(self, key: Key, version: str | None) -> bool:
        """Tell whether this version of a tunnel is later than what is known of it, from a write of ours or before."""
        known = self._tunnels.get(key)
        return known is None or not version or known.version < int(version)

    def put_tunnel(self, tunnel: Tunnel) -> None:
        """Take a tunnel's state, if it is news, and what it has to do with its class.

        A list that was read while the tunnel went does not bring it back.
        """
        is_gone = self._is_gone(tunnel.metadata.uid, _tunnel_version(tunnel))
        if not is_gone and self.is_news(tunnel.key, tunnel.metadata.resource_version):
            self._know(tunnel)

    def wrote_tunnel(self, tunnel: Tunnel, *, is_ours: bool) -> None:
        """Take a Tunnel as a write of ours returned it, with nothing new in it if all that changed is ours.

        What somebody else has changed is left to the watch to bring, as the news that it is. An answer that
        comes after the watch has brought a later state, or the end, is passed over.
        """
        known = self._tunnels.get(tunnel.key)
        version = _tunnel_version(tunnel)
        # The end of an object is no new version of it.
        is_end = known is not None and known.version == version and tunnel.is_gone
        if known is None or not (known.version < version or is_end):
            return
        if is_ours:
            self._know(tunnel)
        else:
            self._doubt(tunnel.key)

    def found_gone(self, key: Key) -> None:
        """Take that a write of ours found no such Tunnel any more, which the watch will tell of, too."""
        self._doubt(key)

    def _doubt(self, key: Key) -> None:
        known = self._tunnels.get(key)
        if known is not None:
            self._tunnels[key] = replace(known, state=None)

    def _know(self, tunnel: Tunnel) -> None:
        self._tunnels[tunnel.key] = _Known(
            uid=tunnel.metadata.uid,
            named=tunnel.spec.tunnel_class_name,
            bound=class_name_of(tunnel, ()),
            place=place_of(tunnel),
            version=_tunnel_version(tunnel),
            state=tunnel.to_json(),
        )
        (self._waiting.add if is_waiting(tunnel) else self._waiting.discard)(tunnel.key)

    def has_tunnel(self, key: Key) -> bool:
        """Tell whether there is such a tunnel."""
        return key in self._tunnels

    def tunnel(self, key: Key) -> Tunnel | None:
        """Return a tunnel as the watch or a write of ours last brought it; None when there may be a later state."""
        known = self._tunnels.get(key)
        return None if known is None or known.state is None else Tunnel.from_json(known.state)

    def is_newest(self, tunnel: Tunnel) -> bool:
        """Tell whether nothing later is known of a tunnel than this state of it."""
        known = self._tunnels.get(tunnel.key)
        return known is not None and known.version <= _tunnel_version(tunnel)

    def note_opening(self, key: Key, *, is_open: bool) -> None:
        """Note that a tunnel is to be open, or is not, before the watch brings what says so."""
        (self._opening.add if is_open else self._opening.discard)(key)

    def has_place(self, tunnel: Tunnel, klass: TunnelClass) -> bool:
        """Tell whether a class's limit for a namespace leaves room for a tunnel."""
        most = klass.spec.limits.max_tunnels_per_namespace
        key = Key(tunnel.metadata.namespace, tunnel.metadata.name)
        if most is None:
            return True
        return has_place(place_of(tunnel), self._places_beside(key, klass.metadata.name), most)

    def next_in_line(self, namespace: str) -> list[Key]:
        """Return of each class the tunnel of a namespace that has waited longest for one of its places."""
        default = default_class_name(self._classes.values())
        waiting = [key for key in self._waiting if key.namespace == namespace]
        waiting.sort(key=lambda key: self._tunnels[key].place.turn, reverse=True)
        return list({self._tunnels[key].bound or default: key for key in waiting}.values())

    def _places_beside(self, own: Key, class_name: str) -> Iterator[Place]:
        default = default_class_name(self._classes.values())
        for key, known in self._tunnels.items():
            is_other = key != own and key.namespace == own.namespace
            if is_other and (known.bound or default) == class_name:
                is_opening = key in self._opening
                yield replace(known.place, claim=Claim.HOLDS) if is_opening else known.place

    def drop_tunnel(self, key: Key, uid: str, version: int) -> None:
        """Forget a tunnel that is gone, and what deleted classes said that no tunnel needs any more.

        A later one of its name stays: kopf may tell of that one's beginning before it tells of this one's end.
        So does this one if a later state of it than `version` is known.
        """
        self._note_gone(uid, version)
        known = self._tunnels.get(key)
        if known is not None and (known.uid != uid or known.version > version):
            return
        self._tunnels.pop(key, None)
        self._opening.discard(key)
        self._waiting.discard(key)
        for name in [name for name in self._gone_classes if not any(self.tunnels_of(name))]:
            del self._gone_classes[name]

    @property
    def waiting(self) -> int:
        """How many tunnels say that they wait for a place."""
        return len(self._waiting)

    def tunnels(self) -> dict[Key, tuple[str, int]]:
        """Return all tunnels: the uid of each, and the version that is known."""
        return {key: (known.uid, known.version) for key, known in self._tunnels.items()}

    def tunnels_of(self, class_name: str) -> Iterator[Key]:
        """Yield the tunnels that a class may be the class of."""
        return (key for key, t in self._tunnels.items() if t.named in (None, class_name))

    def __len__(self) -> int:
        return len(self._tunnels)


def owner_of(body: Body) -> Key | None:
    """Return the key of the tunnel that owns a child, or that its label names if it has lost its owner."""
    metadata = body["metadata"]
    label = (metadata.get("labels") or {}).get(TUNNEL_LABEL)
    owners = (o["name"] for o in metadata.get("ownerReferences") or () if o["kind"] == KIND)
    name = next(owners, label)
    return None if name is None else Key(metadata["namespace"], name)


def _tunnel_version(tunnel: Tunnel) -> int:
    return int(tunnel.metadata.resource_version or 0)


def _version(body: Body) -> int:
    # Versions of one kind may be compared as numbers since Kubernetes 1.35 (KEP-5504), and in etcd ever.
    return int(body["metadata"].get("resourceVersion") or 0)


def _says_the_same(known: Body, lean: Body) -> bool:
    """Tell whether nothing is new but the version; of a Secret that alone tells that its token has changed."""
    if lean["kind"] == Kind.SECRET:
        return False
    before, after = dict(known["metadata"]), dict(lean["metadata"])
    for metadata in (before, after):
        metadata.pop("resourceVersion", None)
    return {**known, "metadata": before} == {**lean, "metadata": after}


def _lean(body: Body) -> Body:
    """Return a child without what no decision needs: tokens, a Pod's long spec, who set which field."""
    metadata = {k: v for k, v in body["metadata"].items() if k != "managedFields"}
    unread = UNREAD.get(body["kind"], ())
    rest = {k: v for k, v in body.items() if k not in unread}
    if body["kind"] == Kind.SECRET:
        rest["data"] = digests(body.get("data") or {})
    if body["kind"] == Kind.POD:
        rest["status"] = what_is_read(body.get("status") or {})
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
