"""Where everything answers and how to sign in: the content of endpoints.json."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunnel_forwarder.protocol.secret import Secret

ENDPOINTS_FILE = "endpoints.json"


@dataclass(frozen=True, slots=True)
class RelayNamespaceEndpoint:
    """One relay namespace; `root_connection_string` carries the key with all rights."""

    namespace: str
    endpoint: str
    root_connection_string: Secret


@dataclass(frozen=True, slots=True)
class DeviceEndpoint:
    """One device; its connection string makes azure-iot-device dial the simulation."""

    id: str
    connection_string: Secret


@dataclass(frozen=True, slots=True)
class HubEndpoint:
    """One IoT Hub; `connection_string` is that of its policy `service`."""

    name: str
    host_name: str
    connection_string: Secret
    devices: tuple[DeviceEndpoint, ...]

    def device(self, device_id: str) -> DeviceEndpoint:
        """Return one of the devices given at start. Raises KeyError for another."""
        for device in self.devices:
            if device.id == device_id:
                return device
        raise KeyError(device_id)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """All planes of a running simulation."""

    ca_file: Path
    authority_host: str
    tenant_id: str
    client_id: str
    client_secret: Secret
    managed_identity_endpoint: str
    """What IDENTITY_ENDPOINT is to hold, and the next one IDENTITY_HEADER."""

    managed_identity_header: Secret
    arm_base_url: str
    subscription_id: str
    resource_group: str
    relay: tuple[RelayNamespaceEndpoint, ...] = field(default=())
    hubs: tuple[HubEndpoint, ...] = field(default=())
    admin_url: str | None = None
    """Where faults, views and the reset are served, if they are."""

    def to_json(self) -> str:
        """Return the file's text. It holds keys: for the owner's eyes only."""
        return json.dumps(self._to_dict(), indent=2) + "\n"

    def _to_dict(self) -> dict[str, Any]:
        return {
            "caFile": str(self.ca_file),
            "adminUrl": self.admin_url,
            "identity": {
                "authorityHost": self.authority_host,
                "tenantId": self.tenant_id,
                "clientId": self.client_id,
                "clientSecret": self.client_secret.reveal(),
                "managedIdentityEndpoint": self.managed_identity_endpoint,
                "managedIdentityHeader": self.managed_identity_header.reveal(),
            },
            "arm": {
                "baseUrl": self.arm_base_url,
                "subscriptionId": self.subscription_id,
                "resourceGroup": self.resource_group,
            },
            "relay": [
                {
                    "namespace": entry.namespace,
                    "endpoint": entry.endpoint,
                    "rootConnectionString": entry.root_connection_string.reveal(),
                }
                for entry in self.relay
            ],
            "hubs": [
                {
                    "name": hub.name,
                    "hostName": hub.host_name,
                    "connectionString": hub.connection_string.reveal(),
                    "devices": [
                        {"id": device.id, "connectionString": device.connection_string.reveal()}
                        for device in hub.devices
                    ],
                }
                for hub in self.hubs
            ],
        }
