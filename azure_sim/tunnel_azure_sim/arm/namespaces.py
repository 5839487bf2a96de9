"""What ARM offers for namespaces beside their hybrid connections: free names, network rules."""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ..relay.model import Namespace
from .errors import bad_request
from .resource import PROVIDER, Resource

# 6 to 50 characters, a letter first, a letter or digit last (documentation "Naming rules for resources").
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{4,48}[A-Za-z0-9]")
_MAX_IP_RULES = 128


def availability(body: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
    """Return whether a namespace may be called so. Raises ArmError when no name is given."""
    name = body.get("name")
    if not isinstance(name, str):
        raise bad_request("'name' is missing.")
    if not _NAME.fullmatch(name):
        reason, message = "InvalidName", f"'{name}' is no name of a namespace."
    elif name.lower() in taken:
        reason, message = "NameInUse", f"The name '{name}' is in use."
    else:
        reason, message = "None", ""
    return {"nameAvailable": reason == "None", "reason": reason, "message": message}


def render_network_rules(resource: Resource, namespace: Namespace) -> dict[str, Any]:
    """Return the network rules, which are kept and not enforced: everything here is on one machine."""
    return {
        "id": f"{resource.namespace_id}/networkRuleSets/default",
        "name": "default",
        "type": f"{PROVIDER}/Namespaces/NetworkRuleSets",
        "properties": {
            "defaultAction": "Allow",
            "publicNetworkAccess": "Enabled",
            "ipRules": [],
            **namespace.network_rules,
        },
    }


def put_network_rules(namespace: Namespace, properties: Mapping[str, Any]) -> None:
    """Take network rules. Raises ArmError."""
    action = properties.get("defaultAction", "Allow")
    access = properties.get("publicNetworkAccess", "Enabled")
    if action not in ("Allow", "Deny") or access not in ("Enabled", "Disabled"):
        raise bad_request(
            "'defaultAction' is Allow or Deny, 'publicNetworkAccess' Enabled or Disabled."
        )
    rules = properties.get("ipRules", [])
    if not isinstance(rules, list) or len(rules) > _MAX_IP_RULES:
        raise bad_request("'ipRules' is a list of 128 rules at most.")
    namespace.network_rules = {
        "defaultAction": action,
        "publicNetworkAccess": access,
        "ipRules": [_ip_rule(rule) for rule in rules],
    }


def _ip_rule(rule: object) -> dict[str, str]:
    match rule:
        case {"ipMask": str(mask), **rest} if rest.get("action", "Allow") == "Allow":
            try:
                ipaddress.ip_network(mask, strict=False)
            except ValueError:
                raise bad_request("An 'ipMask' is not an address or a network.") from None
            return {"ipMask": mask, "action": "Allow"}
        case _:
            raise bad_request("Each of 'ipRules' has 'ipMask' and the action Allow.")
