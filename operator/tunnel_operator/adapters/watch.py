"""kopf's part: it watches, keeps the cache filled, and says which Tunnel to look at. It decides nothing.

Only event handlers are used. Change handlers lose edits that are made while they run, timers and daemons race
them, and both keep state on the object. Indices hold back all handlers until everything is listed, and each
object that waits for that is woken by each that is not: with a few thousand objects that takes half a minute
and 50 MiB. What has to be known before the first pass is listed by runtime.resync instead.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import kopf
import structlog

from ..api.base import GROUP, VERSION, UnreadableError
from ..api.keys import Key
from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass
from ..core.names import MANAGED_BY_SELECTOR
from ..core.observed import UNREAD, Kind
from .discovery import ROUTE_PLURALS
from .inventory import PAGE

Add = Callable[[Key], None]

log = structlog.get_logger(__name__)


class Cache(Protocol):
    """Keeps what the watches bring."""

    def put_child(self, body: Mapping[str, Any]) -> Key | None:
        """Take a child's newest state; return its tunnel's key if that is news."""

    def drop_child(self, body: Mapping[str, Any]) -> Key | None:
        """Forget a child that is gone; return its tunnel's key if that is news."""

    def put_class(self, klass: TunnelClass) -> None:
        """Take a class's newest state."""

    def drop_class(self, name: str) -> None:
        """Forget a class that is gone."""

    def put_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Take a namespace's newest labels."""

    def drop_namespace(self, name: str) -> None:
        """Forget a namespace that is gone."""

    def namespace_labels(self, name: str) -> Mapping[str, str] | None:
        """Return a namespace's labels, as far as they are known."""

    def tunnels_in(self, namespace: str) -> Iterable[Key]:
        """Return the tunnels of a namespace."""

    def is_news(self, key: Key, version: str | None) -> bool:
        """Tell whether this version of a tunnel is later than what is known of it."""

    def put_tunnel(self, tunnel: Tunnel) -> None:
        """Take a tunnel's newest state."""

    def next_in_line(self, namespace: str) -> Iterable[Key]:
        """Return of each class the tunnel of a namespace that has waited longest for one of its places."""

    def drop_tunnel(self, key: Key, uid: str, version: int) -> None:
        """Forget a tunnel that is gone, and no later one of its name."""

    def tunnels_of(self, class_name: str) -> Iterable[Key]:
        """Return the tunnels that a class may be the class of."""


Resource = tuple[str, str, str]
"""Group, version and plural."""

CHILDREN: tuple[Resource, ...] = (
    ("", "v1", "secrets"),
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("networking.k8s.io", "v1", "ingresses"),
    ("networking.k8s.io", "v1", "networkpolicies"),
)


def operator_settings(children: Iterable[Resource]) -> kopf.OperatorSettings:
    """Return kopf's settings: watching only, no peering, no events and nothing written on objects."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    # A list of a thousand Pods at once takes more memory than all that is kept of them.
    settings.watching.chunk_size = PAGE
    settings.posting.enabled = False
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 60
    # Never written by the handlers below; it would name the culprit if one of another kind were added.
    # Each object that changes has a task of kopf's for so long; a burst of changes has thousands.
    settings.queueing.idle_timeout = 0.1
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.finalizer = f"{GROUP}/kopf-unused"
    for _, _, plural in children:
        settings.watching.label_selectors[plural] = MANAGED_BY_SELECTOR
    return settings


class _NoDiffs(kopf.DiffBaseStorage):
    """No handler here wants to know what has changed, and finding that out copies each object twice."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return


def build_registry(
    cache: Cache,
    add: Add,
    login: Callable[[], Awaitable[kopf.AiohttpSession]],
    children: Iterable[Resource],
    *,
    watch_cluster: bool = True,
) -> kopf.OperatorRegistry:
    """Return the handlers. Without `watch_cluster` nothing is watched that is of the whole cluster.

    The cache holds the classes already then, and does without the labels of namespaces.

    All are coroutines: kopf runs plain functions in threads, and the cache belongs to the event loop.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def logged_in(**_: Any) -> kopf.AiohttpSession:
        return await login()

    _register_tunnels(registry, cache, add)
    if watch_cluster:
        _register_classes(registry, cache, add)
        _register_namespaces(registry, cache, add)
    for where in children:
        _register_children(registry, where, cache, add)
    return registry


def children_with(routes: Mapping[Kind, str]) -> tuple[Resource, ...]:
    """Return the resources of all children, with those kinds of routes that the cluster serves."""
    found = []
    for kind, api_version in routes.items():
        group, version = api_version.split("/")
        found.append((group, version, ROUTE_PLURALS[kind]))
    return *CHILDREN, *found


def _register_tunnels(registry: kopf.OperatorRegistry, cache: Cache, add: Add) -> None:
    @kopf.on.event(GROUP, VERSION, "tunnels", registry=registry)
    async def changed(
        namespace: str | None, name: str, body: kopf.Body, event: kopf.RawEvent, **_: Any
    ) -> None:
        key, meta = Key(namespace or "", name), body["metadata"]
        if event["type"] == "DELETED":
            cache.drop_tunnel(key, meta["uid"], int(meta["resourceVersion"]))
            add(key)
        elif cache.is_news(key, meta.get("resourceVersion")):
            try:
                cache.put_tunnel(Tunnel.from_dict(_plain(body)))
                add(key)
            except UnreadableError as error:
                log.warning("tunnel.unreadable", tunnel=str(key), message=str(error))
        # Each change may leave a place; who takes one is heard of here again, and lets the next one look.
        for following in cache.next_in_line(key.namespace):
            add(following)


def _register_classes(registry: kopf.OperatorRegistry, cache: Cache, add: Add) -> None:
    @kopf.on.event(GROUP, VERSION, "tunnelclasses", registry=registry)
    async def changed(name: str, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] == "DELETED":
            cache.drop_class(name)
        else:
            try:
                cache.put_class(TunnelClass.from_dict(_plain(body)))
            except UnreadableError as error:
                # It counts as not there: its tunnels run on by what it last said.
                log.warning("class.unreadable", tunnel_class=name, message=str(error))
                cache.drop_class(name)
        for key in list(cache.tunnels_of(name)):
            add(key)


def _register_namespaces(registry: kopf.OperatorRegistry, cache: Cache, add: Add) -> None:
    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def changed(name: str, labels: Mapping[str, str], event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] == "DELETED":
            cache.drop_namespace(name)
        elif cache.namespace_labels(name) != dict(labels):
            cache.put_namespace(name, labels)
            for key in list(cache.tunnels_in(name)):
                add(key)


def _register_children(
    registry: kopf.OperatorRegistry, where: Resource, cache: Cache, add: Add
) -> None:
    @kopf.on.event(*where, registry=registry)
    async def changed(body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:
        is_gone = event["type"] == "DELETED"
        key = cache.drop_child(_plain(body)) if is_gone else cache.put_child(_plain(body))
        if key is not None:
            add(key)
        _shed(body)


def _shed(body: kopf.Body) -> None:
    """Let go of what nobody reads: kopf holds each object until its task for that object ends."""
    raw = _plain(body)
    raw["metadata"].pop("managedFields", None)
    for part in UNREAD.get(raw["kind"], ()):
        raw.get(part, {}).clear()


def _plain(body: kopf.Body) -> dict[str, Any]:
    """Return the object itself; kopf's body is a view that may change under us."""
    return dict(body)
