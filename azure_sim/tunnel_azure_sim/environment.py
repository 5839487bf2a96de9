"""What a shell needs to know of a running simulation: exports for the SDKs and for scripts."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .endpoints import ENDPOINTS_FILE
from .errors import ConfigError


def read_environment(state_dir: Path) -> str:
    """Return the exports as shell text; it holds keys. Raises ConfigError when nothing runs there."""
    try:
        content = json.loads((state_dir / ENDPOINTS_FILE).read_text())
    except FileNotFoundError:
        raise ConfigError(f"No simulation runs with the state directory {state_dir}.") from None
    except (OSError, ValueError):
        raise ConfigError(f"{state_dir / ENDPOINTS_FILE} can not be read.") from None
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in variables(content).items()
    )


def variables(content: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables; the plain names are those of the first namespace, hub and device."""
    identity, arm, ca_file = content["identity"], content["arm"], content["caFile"]
    found = {
        # Where each SDK and tool looks for authorities.
        "REQUESTS_CA_BUNDLE": ca_file,
        "SSL_CERT_FILE": ca_file,
        "NODE_EXTRA_CA_CERTS": ca_file,
        "AZURE_AUTHORITY_HOST": identity["authorityHost"],
        "AZURE_TENANT_ID": identity["tenantId"],
        "AZURE_CLIENT_ID": identity["clientId"],
        "AZURE_CLIENT_SECRET": identity["clientSecret"],
        "AZURE_SUBSCRIPTION_ID": arm["subscriptionId"],
        "AZURE_RESOURCE_GROUP": arm["resourceGroup"],
        "AZURE_ARM_BASE_URL": arm["baseUrl"],
        # Not IDENTITY_ENDPOINT itself: with it set, credentials would be looked for there first.
        "AZURE_SIM_IDENTITY_ENDPOINT": identity["managedIdentityEndpoint"],
        "AZURE_SIM_IDENTITY_HEADER": identity["managedIdentityHeader"],
    }
    if content.get("adminUrl"):
        found["AZURE_SIM_ADMIN_URL"] = content["adminUrl"]
    for entry in content["relay"]:
        _add(found, "RELAY_ENDPOINT", entry["namespace"], entry["endpoint"])
        _add(found, "RELAY_CONNECTION_STRING", entry["namespace"], entry["rootConnectionString"])
    for hub in content["hubs"]:
        _add(found, "IOTHUB_CONNECTION_STRING", hub["name"], hub["connectionString"])
        for device in hub["devices"]:
            name = "IOTHUB_DEVICE_CONNECTION_STRING"
            _add(found, name, f"{hub['name']}_{device['id']}", device["connectionString"])
    return found


def _add(found: dict[str, str], name: str, of: str, value: str) -> None:
    found.setdefault(name, value)
    found[f"{name}_{re.sub(r'[^A-Z0-9]', '_', of.upper())}"] = value
