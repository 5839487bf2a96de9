"""The client of azure-iot-hub, made for many calls of one thread."""

import base64

from azure.core.credentials import TokenCredential
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.connection_string import (
    SHARED_ACCESS_KEY,
    SHARED_ACCESS_KEY_NAME,
    ConnectionString,
)

CONNECT_SECONDS = 10
"""How long a connection to the hub may take; a hub that can not be reached takes no longer."""


def make_hub_client(
    credential: TokenCredential, host: str, connection_string: str | None
) -> IoTHubRegistryManager:
    """Return a client of a hub; without a connection string it asks for a token, which blocks."""
    client = (
        IoTHubRegistryManager.from_token_credential(host, credential)
        if connection_string is None
        else IoTHubRegistryManager.from_connection_string(connection_string)
    )
    # A repeated POST would run the device's method twice.
    client.protocol.config.retry_policy.retries = 0
    # Else each call makes a connection of its own (msrest/service_client.py).
    client.protocol.config.keep_alive = True
    return client


def read_connection_string(encoded: bytes) -> str:
    """Return the connection string that a Secret's value in base64 holds. Raises ValueError for any other text.

    The SDK would find out only when it makes a client, or signs a call; a device's connection string is
    none of a hub.
    """
    text = base64.b64decode(encoded).decode().strip()
    parts = ConnectionString(text)
    if not parts.get(SHARED_ACCESS_KEY_NAME):
        raise ValueError("It names no policy of the hub.")
    base64.b64decode(parts[SHARED_ACCESS_KEY], validate=True)
    return text
