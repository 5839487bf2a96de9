"""The operator's reads and writes in the cluster. Writes are server-side apply of whole intents, but for one."""

from collections.abc import Callable, Mapping
from typing import Any

from ..api import tunnel as tunnel_api
from ..api.base import API_VERSION, GROUP, VERSION, UnreadableError
from ..api.keys import Key
from ..api.reasons import Reason
from ..api.tunnel import FINALIZER, Tunnel, TunnelStatus
from ..core import backoff
from ..core.names import MANAGER
from ..core.observed import Kind
from ..errors import ConflictError, Retryable, Terminal
from .discovery import ROUTE_PLURALS
from .kube_api import APPLY, JSON_PATCH, KubeApi, NotFoundError

REMOVE_TRIES = 4
"""How often in a row the finalizer's removal is tried while others change the Tunnel."""

NO_VERSION = "1"
"""A version that no object has."""

_PATHS = {
    Kind.SECRET: "/api/v1/namespaces/{namespace}/secrets",
    Kind.POD: "/api/v1/namespaces/{namespace}/pods",
    Kind.SERVICE: "/api/v1/namespaces/{namespace}/services",
    Kind.NETWORK_POLICY: "/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies",
    Kind.INGRESS: "/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses",
}


class KubeCluster:
    """Tunnels and their children. Provides runtime.ports.Cluster.

    `routes` returns the kinds of routes that the API server serves, and the apiVersion of each.
    """

    def __init__(self, api: KubeApi, routes: Callable[[], Mapping[Kind, str]]) -> None:
        self._api = api
        self._routes = routes

    async def get_tunnel(self, key: Key) -> Tunnel | None:
        """Return a Tunnel as it is now; None when there is none."""
        try:
            return _read(await self._api.request("GET", _tunnel_path(key)))
        except NotFoundError:
            return None

    async def apply_status(
        self, tunnel: Tunnel, status: TunnelStatus, *, only_unchanged: bool
    ) -> Tunnel | None:
        """Make this the operator's part of the status; nothing happens when the Tunnel is gone.

        `only_unchanged`: raise ConflictError if anything of it has changed since this state of it.
        """
        body = {**_identity(tunnel), "status": status.to_dict()}
        if only_unchanged:
            body["metadata"]["resourceVersion"] = tunnel.metadata.resource_version
        return await self._apply_to_tunnel(f"{_tunnel_path(tunnel.key)}/status", body)

    async def set_finalizer(self, tunnel: Tunnel, *, present: bool) -> Tunnel | None:
        """Add the operator's finalizer, or take it away, of this very Tunnel and no later namesake.

        The uid in the body makes the API server refuse an apply to a namesake, and keeps it from
        creating the Tunnel anew when it has just gone.
        """
        if not present:
            return await self._remove_finalizer(tunnel)
        body = _identity(tunnel)
        body["metadata"]["finalizers"] = [FINALIZER]
        return await self._apply_to_tunnel(_tunnel_path(tunnel.key), body)

    async def _remove_finalizer(self, tunnel: Tunnel) -> Tunnel | None:
        """Take the finalizer out of the list, whoever has put it there.

        An apply without it takes away only what this operator alone has applied: not from a Tunnel that
        was restored from a backup with its finalizer, or whose `managedFields` were cleared.
        """
        for _ in range(REMOVE_TRIES):
            if not tunnel.has_finalizer:
                return tunnel
            try:
                answer = await self._api.request(
                    "PATCH",
                    _tunnel_path(tunnel.key),
                    body=_without_finalizer(tunnel),
                    content_type=JSON_PATCH,
                    query={"fieldManager": MANAGER},
                )
                return _read(answer)
            except NotFoundError:
                return None
            except (ConflictError, Terminal):
                # Changed meanwhile, as a failed test says by 422. To be refused otherwise is no conflict.
                newest = await self.get_tunnel(tunnel.key)
                if newest is None or newest.metadata.uid != tunnel.metadata.uid:
                    return None
                if newest.metadata.resource_version == tunnel.metadata.resource_version:
                    raise
                tunnel = newest
        text = f"The finalizer of {tunnel} could not be removed: its list changed {REMOVE_TRIES} times."
        raise Retryable(Reason.UNAVAILABLE, text)

    async def _apply_to_tunnel(self, path: str, body: Mapping[str, Any]) -> Tunnel | None:
        try:
            return _read(await self._apply(path, body))
        except NotFoundError:
            return None

    async def apply(self, manifest: Mapping[str, Any], *, is_known: bool) -> Mapping[str, Any]:
        """Make an object as the manifest says and return it as it is then.

        One that is not known is only made, as one request: what has its name already is not touched.
        """
        metadata = manifest["metadata"]
        path = (
            f"{self._collection(metadata['namespace'], Kind(manifest['kind']))}/{metadata['name']}"
        )
        if not is_known:
            try:
                return await self._apply(path, _only_new(manifest))
            except ConflictError:
                await self._refuse_foreign(path, manifest)
        return await self._apply(path, manifest)

    async def _apply(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._api.request(
            "PATCH", path, body=body, content_type=APPLY, query=_forced()
        )

    async def delete(
        self, namespace: str, kind: Kind, name: str, uid: str, *, is_forced: bool
    ) -> Mapping[str, Any] | None:
        """Remove an object, if it is still this one; return it when it needs time to go.

        `is_forced`: give it no such time; what is answered then is how it last was.
        """
        body: dict[str, Any] = {
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
            **({"gracePeriodSeconds": 0} if is_forced else {}),
        }
        try:
            answer = await self._api.request(
                "DELETE", f"{self._collection(namespace, kind)}/{name}", body=body
            )
        except NotFoundError:
            return None
        except ConflictError:
            # A later object has taken the name: this one is gone.
            return None
        metadata = answer.get("metadata") or {}
        is_going = "deletionTimestamp" in metadata and not is_forced
        return {**answer, "kind": kind.value} if is_going else None

    async def secret_value(self, namespace: str, name: str, key: str) -> bytes | None:
        """Return one value of a Secret in base64; None when it is not there."""
        try:
            path = f"{self._collection(namespace, Kind.SECRET)}/{name}"
            body = await self._api.request("GET", path)
        except NotFoundError:
            return None
        value = (body.get("data") or {}).get(key)
        return None if value is None else str(value).encode()

    def _collection(self, namespace: str, kind: Kind) -> str:
        if kind in ROUTE_PLURALS:
            return f"/apis/{self._routes()[kind]}/namespaces/{namespace}/{ROUTE_PLURALS[kind]}"
        return _PATHS[kind].format(namespace=namespace)

    async def _refuse_foreign(self, path: str, manifest: Mapping[str, Any]) -> None:
        """See whether what has the name is ours, before an apply that would take it over."""
        try:
            body = await self._api.request("GET", path)
        except NotFoundError:
            return
        wanted = manifest["metadata"]["ownerReferences"][0]
        owners = body["metadata"].get("ownerReferences") or ()
        if any(owner["uid"] == wanted["uid"] for owner in owners):
            return
        what = f"There is a {manifest['kind']} {manifest['metadata']['name']!r} already that"
        if any(
            (owner["kind"], owner["name"]) == (wanted["kind"], wanted["name"]) for owner in owners
        ):
            raise Retryable(
                Reason.NAME_TAKEN,
                f"{what} was an earlier Tunnel's of this name. Kubernetes removes it in a moment.",
            )
        raise Terminal(
            Reason.NAME_TAKEN,
            f"{what} does not belong to this Tunnel. Delete it, or give the Tunnel another name.",
        )


def _read(body: Mapping[str, Any]) -> Tunnel:
    """Return a Tunnel. Raises Terminal for one that this version can not read."""
    try:
        return Tunnel.from_dict(body)
    except UnreadableError as error:
        text = f"The Tunnel can not be read by this version of the operator: {error}."
        raise Terminal(Reason.REJECTED, text, retry_after=backoff.TERMINAL) from error


def _tunnel_path(key: Key) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{key.namespace}/{tunnel_api.PLURAL}/{key.name}"


def _identity(tunnel: Tunnel) -> dict[str, Any]:
    meta = tunnel.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": tunnel_api.KIND,
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
    }


def _without_finalizer(tunnel: Tunnel) -> list[dict[str, Any]]:
    """Return a JSON patch that does nothing but to this Tunnel, with the finalizer where it was seen."""
    where = f"/metadata/finalizers/{tunnel.metadata.finalizers.index(FINALIZER)}"
    return [
        {"op": "test", "path": "/metadata/uid", "value": tunnel.metadata.uid},
        {"op": "test", "path": where, "value": FINALIZER},
        {"op": "remove", "path": where},
    ]


def _only_new(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes the object, and is answered 409 when there is one of its name, whosever it is.

    The API server compares a `resourceVersion` with that of what is there, and with nothing where nothing
    is (its registry/generic/registry/store.go). etcd gives its first write revision 2: no object has 1.
    """
    return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": NO_VERSION}}


def _forced() -> dict[str, str]:
    return {"fieldManager": MANAGER, "force": "true"}
