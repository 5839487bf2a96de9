"""Lists of what there is in the cluster, without the watches."""

from collections.abc import Mapping
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

    async def tunnels(self) -> list[Mapping[str, Any]]:
        """Return the Tunnels that are served."""
        return await self._everywhere(f"/apis/{GROUP}/{VERSION}", tunnel.PLURAL, {})

    async def classes(self) -> list[Mapping[str, Any]] | None:
        """Return the TunnelClasses; None when they are not the cluster's."""
        if not self._with_classes:
            return None
        return await self._pages(f"/apis/{GROUP}/{VERSION}/{tunnel_class.PLURAL}", {})

    async def namespaces(self) -> list[Mapping[str, Any]] | None:
        """Return the cluster's namespaces; None when they may not be read, as classes may not."""
        return await self._pages("/api/v1/namespaces", {}) if self._with_classes else None

    async def children(self, kind: Kind) -> list[Mapping[str, Any]]:
        """Return the objects of a kind that an operator made."""
        root, plural = self._collections[kind]
        found = await self._everywhere(root, plural, {"labelSelector": MANAGED_BY_SELECTOR})
        # Lists name the kind once, and not in their items.
        return [{**body, "kind": kind.value} for body in found]

    async def _everywhere(
        self, root: str, plural: str, query: dict[str, str]
    ) -> list[Mapping[str, Any]]:
        if not self._namespaces:
            return await self._pages(f"{root}/{plural}", query)
        return [
            body
            for namespace in self._namespaces
            for body in await self._pages(f"{root}/namespaces/{namespace}/{plural}", query)
        ]

    async def _pages(self, path: str, query: dict[str, str]) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        following = ""
        while True:
            page = {"limit": str(PAGE), **({"continue": following} if following else {})}
            listed = await self._api.request("GET", path, query=query | page)
            found += listed["items"]
            following = listed["metadata"].get("continue") or ""
            if not following:
                return found
