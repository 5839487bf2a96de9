"""The Kubernetes API, over the official asynchronous client.

Writes are server-side apply of whole intents. The paths are fixed: discovery would need a place to cache
and rights that the operator has no other use for.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiohttp
from kubernetes.aio import client

from ..api import tunnel as tunnel_api
from ..api.base import API_VERSION, GROUP, VERSION
from ..api.keys import Key
from ..api.reasons import Reason
from ..api.tunnel import FINALIZER, Tunnel, TunnelStatus
from ..core.names import MANAGER
from ..core.observed import Kind
from ..errors import Retryable, Terminal, TunnelError

DEADLINE_SECONDS = 15
APPLY = "application/apply-patch+yaml"

_PATHS = {
    Kind.SECRET: "/api/v1/namespaces/{namespace}/secrets",
    Kind.POD: "/api/v1/namespaces/{namespace}/pods",
    Kind.SERVICE: "/api/v1/namespaces/{namespace}/services",
    Kind.INGRESS: "/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses",
}


class KubeCluster:
    """The operator's reads and writes. Provides runtime.ports.Cluster."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def get_tunnel(self, key: Key) -> Tunnel | None:
        """Return a Tunnel as it is now; None when there is none."""
        try:
            return Tunnel.from_dict(await self._request("GET", _tunnel_path(key)))
        except _NotFoundError:
            return None

    async def apply_status(self, tunnel: Tunnel, status: TunnelStatus) -> None:
        """Make this the operator's part of the status; nothing happens when the Tunnel is gone."""
        body = {**_identity(tunnel), "status": status.to_dict()}
        path = f"{_tunnel_path(_key(tunnel))}/status"
        try:
            await self._request("PATCH", path, body=body, content_type=APPLY, query=_forced())
        except _NotFoundError:
            return

    async def set_finalizer(self, tunnel: Tunnel, *, present: bool) -> None:
        """Add the operator's finalizer, or take it away, of this very Tunnel and no later namesake.

        The uid in the body makes the API server refuse an apply to a namesake, and keeps it from
        creating the Tunnel anew when it has just gone.
        """
        body = _identity(tunnel)
        if present:
            body["metadata"]["finalizers"] = [FINALIZER]
        path = _tunnel_path(_key(tunnel))
        try:
            await self._request("PATCH", path, body=body, content_type=APPLY, query=_forced())
        except _NotFoundError:
            return

    async def apply(self, manifest: Mapping[str, Any], *, is_known: bool) -> Mapping[str, Any]:
        """Make an object as the manifest says and return it as it is then."""
        metadata = manifest["metadata"]
        path = f"{_collection(metadata['namespace'], Kind(manifest['kind']))}/{metadata['name']}"
        if not is_known:
            await self._refuse_foreign(path, manifest)
        return await self._request(
            "PATCH", path, body=dict(manifest), content_type=APPLY, query=_forced()
        )

    async def delete(
        self, namespace: str, kind: Kind, name: str, uid: str
    ) -> Mapping[str, Any] | None:
        """Remove an object, if it is still this one; return it when it needs time to go."""
        body = {"preconditions": {"uid": uid}, "propagationPolicy": "Background"}
        try:
            answer = await self._request(
                "DELETE", f"{_collection(namespace, kind)}/{name}", body=body
            )
        except _NotFoundError:
            return None
        except _ConflictError:
            # A later object has taken the name: this one is gone.
            return None
        is_going = "deletionTimestamp" in (answer.get("metadata") or {})
        return {**answer, "kind": kind.value} if is_going else None

    async def secret_value(self, namespace: str, name: str, key: str) -> bytes | None:
        """Return one value of a Secret in base64; None when it is not there."""
        try:
            body = await self._request("GET", f"{_collection(namespace, Kind.SECRET)}/{name}")
        except _NotFoundError:
            return None
        value = (body.get("data") or {}).get(key)
        return None if value is None else str(value).encode()

    async def _refuse_foreign(self, path: str, manifest: Mapping[str, Any]) -> None:
        """See that the name is free or ours, before an apply that would take over what is there."""
        try:
            body = await self._request("GET", path)
        except _NotFoundError:
            return
        owner = manifest["metadata"]["ownerReferences"][0]["uid"]
        owners = body["metadata"].get("ownerReferences") or ()
        if all(reference["uid"] != owner for reference in owners):
            name = manifest["metadata"]["name"]
            raise Terminal(
                Reason.NAME_TAKEN,
                f"There is a {manifest['kind']} {name!r} already that does not belong to this Tunnel. "
                "Delete it, or give the Tunnel another name.",
            )

    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the answer's JSON. Raises TunnelError for every failure."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=DEADLINE_SECONDS)
            data: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(
                Reason.UNAVAILABLE,
                f"The Kubernetes API can not be reached: {type(error).__name__}.",
            ) from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _classify(response.status, data)
        answer: dict[str, Any] = json.loads(data)
        return answer


class _NotFoundError(Retryable):
    """There is no such object."""


class _ConflictError(Retryable):
    """The object is another one, or was changed meanwhile."""


def _classify(status: int, data: bytes) -> TunnelError:
    try:
        message = str(json.loads(data).get("message") or "")
    except (ValueError, AttributeError):
        message = ""
    text = f"The Kubernetes API answered {status}: {message}"
    match status:
        case HTTPStatus.NOT_FOUND:
            return _NotFoundError(Reason.NOT_FOUND, text)
        case HTTPStatus.CONFLICT:
            return _ConflictError(Reason.UNAVAILABLE, text)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            # Not for a person to mend, as far as can be told: a quota that is used up now and a namespace
            # that has just been made and lacks its service account are refused in the same way.
            return Retryable(Reason.UNAUTHORIZED, text)
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return Terminal(Reason.REJECTED, text)
        case _:
            return Retryable(Reason.UNAVAILABLE, text)


def _key(tunnel: Tunnel) -> Key:
    return Key(tunnel.metadata.namespace, tunnel.metadata.name)


def _tunnel_path(key: Key) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{key.namespace}/{tunnel_api.PLURAL}/{key.name}"


def _collection(namespace: str, kind: Kind) -> str:
    return _PATHS[kind].format(namespace=namespace)


def _identity(tunnel: Tunnel) -> dict[str, Any]:
    meta = tunnel.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": tunnel_api.KIND,
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
    }


def _forced() -> dict[str, str]:
    return {"fieldManager": MANAGER, "force": "true"}
