"""The names of everything that belongs to a tunnel. The same tunnel always gets the same names."""

import hashlib
import json
import re
from typing import Any

from ..api.base import API_VERSION
from ..api.tunnel import KIND, Tunnel
from ..api.tunnel_class import DeletionPolicy, Naming, TunnelClassSpec
from .observed import Kind

MANAGER = "tunnel-operator"
"""The field manager of all that the operator applies, and the value of the managed-by label."""

TUNNEL_LABEL = "tunnels.dev/tunnel"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGER}"

_HYBRID_CONNECTION = re.compile(r"[0-9A-Za-z]([0-9A-Za-z._/-]*[0-9A-Za-z])?")
"""What Azure Relay takes as the name of a hybrid connection (resource naming rules, Microsoft.Relay)."""


def hybrid_connection(tunnel: Tunnel, klass: TunnelClassSpec) -> str:
    """Return the name of a tunnel's rendezvous: the device's, or one of its own.

    Its own is readable, and new for a Tunnel that is created again unless it is to be kept. It never has more than 125 characters
    of the 260 that Azure Relay allows: 63, 52 and 8, and two dots.

    What has been made keeps its name to its end, though another class of the same name may say otherwise by
    then: a deleted one that was made anew, or one of a file.
    """
    meta, made = tunnel.metadata, tunnel.status.hybrid_connection
    if made is not None:
        return made.name
    if klass.hybrid_connection_naming is Naming.DEVICE:
        return tunnel.spec.device.id
    if klass.deletion_policy is DeletionPolicy.RETAIN:
        return f"{meta.namespace}.{meta.name}"
    return f"{meta.namespace}.{meta.name}.{meta.uid[:8]}"


def is_new_for_each(klass: TunnelClassSpec) -> bool:
    """Tell whether no Tunnel's hybrid connection can have been there before the Tunnel."""
    is_own = klass.hybrid_connection_naming is Naming.TUNNEL
    return is_own and klass.deletion_policy is not DeletionPolicy.RETAIN


def is_hybrid_connection(name: str) -> bool:
    """Tell whether Azure Relay takes this as a name; a device's id may hold more than that."""
    return _HYBRID_CONNECTION.fullmatch(name) is not None


def send_rule(tunnel: Tunnel) -> str:
    """Return the name of the forwarder's rule; Tunnels that share a hybrid connection have one each."""
    return f"tunnel-send-{tunnel.metadata.uid[:8]}"


def listen_rule(tunnel: Tunnel) -> str:
    """Return the name of the device's rule."""
    return f"tunnel-listen-{tunnel.metadata.uid[:8]}"


def forwarder(tunnel: Tunnel) -> str:
    """Return the name of the Pod and of its Secret."""
    return f"{tunnel.metadata.name}-forwarder"


def service(tunnel: Tunnel) -> str:
    """Return the name of the Service and of the Ingress: the Tunnel's own, as people will type it."""
    return tunnel.metadata.name


def route(tunnel: Tunnel, kind: Kind) -> str:
    """Return the name of a route, which no route of another kind has.

    Contour keeps the status of routes by name alone: of two kinds of one name, one would get no answer.
    """
    return f"{tunnel.metadata.name}-{kind.removesuffix('Route').lower()}"


def correlation_id(tunnel: Tunnel) -> str:
    """Return what marks a tunnel's lines in the logs of operator, forwarder and device alike."""
    return tunnel.metadata.uid


def labels(tunnel: Tunnel) -> dict[str, str]:
    """Return the labels of all children.

    None is copied from the Tunnel, and there is no `app.kubernetes.io/instance`: Argo CD may track its
    own by that label, and would then prune the children.
    """
    return {
        "app.kubernetes.io/name": "tunnel-forwarder",
        "app.kubernetes.io/component": "forwarder",
        "app.kubernetes.io/part-of": "edge-tunnels",
        MANAGED_BY_LABEL: MANAGER,
        TUNNEL_LABEL: tunnel.metadata.name,
    }


def forwarder_labels() -> dict[str, str]:
    """Return the labels that all forwarders have, and nothing else that this operator makes a Pod of."""
    return {"app.kubernetes.io/name": "tunnel-forwarder", MANAGED_BY_LABEL: MANAGER}


def owner_reference(tunnel: Tunnel) -> dict[str, Any]:
    """Return the reference by which Kubernetes collects children when their Tunnel is gone."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": tunnel.metadata.name,
        "uid": tunnel.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def digest(value: object) -> str:
    """Return a short digest of JSON-like data, the same for the same data."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
