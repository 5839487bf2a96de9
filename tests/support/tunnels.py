"""Tunnels and classes as the API server would hand them out."""

from datetime import UTC, datetime
from typing import Any

from tunnel_operator.api.tunnel import FINALIZER, Tunnel
from tunnel_operator.api.tunnel_class import TunnelClass

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
IMAGE = "registry.test/forwarder:1"
UID = "0f1e2d3c-0000-4000-8000-000000000001"


GATEWAY = {"name": "edge", "namespace": "gateways"}
ONE_PORT = {"ports": [{"name": "web", "port": 80, "target": "localhost:8080", "protocol": "HTTP"}]}
"""For devices that know one port only."""


def class_body(name: str = "azure", **spec: Any) -> dict[str, Any]:
    """Return a TunnelClass with the least that it needs, and what is given besides."""
    return {
        "apiVersion": "tunnels.dev/v1alpha1",
        "kind": "TunnelClass",
        "metadata": {"name": name, "uid": "class-uid", "generation": 1, "resourceVersion": "1"},
        "spec": {
            "relay": {
                "subscriptionId": "00000000-0000-4000-8000-000000000000",
                "resourceGroup": "tunnels",
                "namespace": "clinic-relay",
            },
            "iotHub": {"hostName": "clinic.azure-devices.net"},
            **spec,
        },
    }


def tunnel_body(
    name: str = "mri-7", *, uid: str = UID, generation: int = 1, **spec: Any
) -> dict[str, Any]:
    """Return a Tunnel with a web and an SSH port, and what is given besides."""
    return {
        "apiVersion": "tunnels.dev/v1alpha1",
        "kind": "Tunnel",
        "metadata": {
            "name": name,
            "namespace": "imaging",
            "uid": uid,
            "generation": generation,
            "resourceVersion": "10",
        },
        "spec": {
            "tunnelClassName": "azure",
            "device": {"id": name},
            "ports": [
                {"name": "web", "port": 80, "target": "localhost:8080", "protocol": "HTTP"},
                {"name": "ssh", "port": 22, "protocol": "TCP"},
            ],
            **spec,
        },
    }


def a_class(name: str = "azure", **spec: Any) -> TunnelClass:
    """Return a parsed TunnelClass."""
    return TunnelClass.from_dict(class_body(name, **spec))


def a_tunnel(
    *, finalizer: bool = False, status: dict[str, Any] | None = None, **spec: Any
) -> Tunnel:
    """Return a parsed Tunnel."""
    body = tunnel_body(**spec)
    if finalizer:
        body["metadata"]["finalizers"] = [FINALIZER]
    if status is not None:
        body["status"] = status
    return Tunnel.from_dict(body)
