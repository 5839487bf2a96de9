"""Relay's resources as JSON, as azure-mgmt-relay reads them."""

from datetime import UTC, datetime
from typing import Any

from tunnel_forwarder.protocol.secret import Secret

from ..relay.model import HybridConnection, Namespace, Rule
from .resource import PROVIDER, Resource

LOCATION = "simulated"


def render_namespace(resource: Resource, namespace: Namespace, endpoint: str) -> dict[str, Any]:
    """Return a namespace; `endpoint` is `sb://host:port/`."""
    created = _time(namespace.created_at)
    return {
        "id": resource.namespace_id,
        "name": namespace.name,
        "type": f"{PROVIDER}/Namespaces",
        "location": LOCATION,
        "sku": {"name": "Standard", "tier": "Standard"},
        "tags": {},
        "properties": {
            "provisioningState": "Succeeded",
            "status": "Active",
            "createdAt": created,
            "updatedAt": created,
            "serviceBusEndpoint": endpoint.replace("sb://", "https://", 1),
            "metricId": f"{resource.subscription}:{namespace.name}",
        },
    }


def render_hybrid_connection(
    resource: Resource, hybrid_connection: HybridConnection
) -> dict[str, Any]:
    """Return a hybrid connection with its live number of listeners."""
    properties: dict[str, Any] = {
        "createdAt": _time(hybrid_connection.created_at),
        "updatedAt": _time(hybrid_connection.updated_at),
        "listenerCount": len(hybrid_connection.listeners),
        "requiresClientAuthorization": hybrid_connection.requires_client_authorization,
    }
    if hybrid_connection.user_metadata is not None:
        properties["userMetadata"] = hybrid_connection.user_metadata
    return {
        "id": f"{resource.namespace_id}/hybridConnections/{hybrid_connection.name}",
        "name": hybrid_connection.name,
        "type": f"{PROVIDER}/Namespaces/HybridConnections",
        "location": LOCATION,
        "properties": properties,
    }


def render_rule(resource: Resource, rule: Rule) -> dict[str, Any]:
    """Return an authorization rule, without its keys."""
    parent, kind = resource.namespace_id, f"{PROVIDER}/Namespaces/AuthorizationRules"
    if resource.hybrid_connection is not None:
        parent = f"{parent}/hybridConnections/{resource.hybrid_connection}"
        kind = f"{PROVIDER}/Namespaces/HybridConnections/AuthorizationRules"
    return {
        "id": f"{parent}/authorizationRules/{rule.name}",
        "name": rule.name,
        "type": kind,
        "location": LOCATION,
        "properties": {"rights": sorted(rule.rights)},
    }


def render_keys(rule: Rule, endpoint: str, hybrid_connection: str | None) -> dict[str, Any]:
    """Return a rule's keys and connection strings. The answer holds secrets."""
    return {
        "keyName": rule.name,
        "primaryKey": rule.keys.primary.reveal(),
        "secondaryKey": rule.keys.secondary.reveal(),
        "primaryConnectionString": connection_string(
            endpoint, rule.name, rule.keys.primary, hybrid_connection
        ).reveal(),
        "secondaryConnectionString": connection_string(
            endpoint, rule.name, rule.keys.secondary, hybrid_connection
        ).reveal(),
    }


def connection_string(
    endpoint: str, rule: str, key: Secret, hybrid_connection: str | None
) -> Secret:
    """Return a connection string; that of a hybrid connection's rule names its entity."""
    text = f"Endpoint={endpoint};SharedAccessKeyName={rule};SharedAccessKey={key.reveal()}"
    return Secret(text if hybrid_connection is None else f"{text};EntityPath={hybrid_connection}")


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
