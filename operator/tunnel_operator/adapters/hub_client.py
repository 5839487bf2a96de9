"""The client of azure-iot-hub, made for many calls of one thread."""

from azure.core.credentials import TokenCredential
from azure.iot.hub import IoTHubRegistryManager

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
