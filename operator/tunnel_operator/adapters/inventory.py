"""Lists of what there is in the cluster, without the watches."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from ..api import tunnel, tunnel_class
from ..api.base import GROUP, VERSION
from ..core.names import MANAGED_BY_SELECTOR
from ..core.observed import Kind
from .discovery import ROUTE_PLURALS
from .kube_api import KubeApi

PAGE = 100
"""How many objects one answer to a list holds."""

_COLLECTIONS = {
    Kind.SECRET: ("/api/v1", "secrets"),
    Kind.POD: ("/api/v1", "pods"),
    Kind.SERVICE: ("/api/v1", "services"),
    Kind.NETWORK_POLICY: ("/apis/networking.k8s.io/v1", "networkpolicies"),
    Kind.INGRESS: ("/apis/networking.k8s.io/v1", "ingresses"),
}


class KubeInventory:
    """Provides runtime.resync.Inventory for some namespaces, or for all when none is given.

    `routes` are the kinds of routes that the API server serves, and the apiVersion of each.
    """

    def __init__(
        self,
        api: KubeApi,
        namespaces: tuple[str, ...],
        *,
        with_classes: bool,
        routes: Mapping[Kind, str] | None = None,
    ) -> None:
        self._api = api
        self._collections = _COLLECTIONS | {
            kind: (f"/apis/{version}", ROUTE_PLURALS[kind])
            for kind, version in (routes or {}).items()
        }
        self._namespaces = namespaces
        self._with_classes = with_classes

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of children that can be listed."""
        return tuple(self._collections)

    def tunnels(self) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the Tunnels that are served."""
        return self._everywhere(f"/apis/{GROUP}/{VERSION}", tunnel.PLURAL, {})

    async def classes(self) -> list[Mapping[str, Any]] | None:
        """Return the TunnelClasses; None when they are not the cluster's."""
        return await self._of_the_cluster(f"/apis/{GROUP}/{VERSION}/{tunnel_class.PLURAL}")

    async def namespaces(self) -> list[Mapping[str, Any]] | None:
        """Return the cluster's namespaces; None when they may not be read, as classes may not."""
        return await self._of_the_cluster("/api/v1/namespaces")

    async def children(self, kind: Kind) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the objects of a kind that an operator made."""
        root, plural = self._collections[kind]
        async for body in self._everywhere(root, plural, {"labelSelector": MANAGED_BY_SELECTOR}):
            # Lists name the kind once, and not in their items.
            yield {**body, "kind": kind.value}

    async def _of_the_cluster(self, path: str) -> list[Mapping[str, Any]] | None:
        return [body async for body in self._pages(path, {})] if self._with_classes else None

    async def _everywhere(
        self, root: str, plural: str, query: dict[str, str]
    ) -> AsyncIterator[Mapping[str, Any]]:
        places = [f"/namespaces/{namespace}" for namespace in self._namespaces] or [""]
        for place in places:
            async for body in self._pages(f"{root}{place}/{plural}", query):
                yield body

    async def _pages(self, path: str, query: dict[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        """Yield what is listed, with one page at a time in memory: a thousand Pods take 50 MiB."""
        following = ""
        while True:
            page = {"limit": str(PAGE), **({"continue": following} if following else {})}
            listed = await self._api.request("GET", path, query=query | page)
            for body in listed["items"]:
                yield body
            following = listed["metadata"].get("continue") or ""
            if not following:
                return
