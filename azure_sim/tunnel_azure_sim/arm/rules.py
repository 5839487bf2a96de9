"""Authorization rules and their keys, of a namespace or of a hybrid connection."""

import re
from collections.abc import Mapping
from typing import Any

from tunnel_forwarder.protocol.secret import Secret

from ..relay.model import MAX_RULES, Right, Rule, find_rule, rule_rights
from ..state import KeyPair, generate_key
from .errors import ArmError, bad_request, not_found

ASSUMED_RULE_QUOTA_CODE = "QuotaExceeded"
"""Status 403 with this code for the 13th rule of a level; the limit is documented, the answer is not."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
_MAX_KEY_LENGTH = 128


def existing_rule(rules: Mapping[str, Rule], name: str) -> Rule:
    """Return a rule. Raises ArmError (404) when it is not there."""
    rule = find_rule(dict(rules), name)
    if rule is None:
        raise not_found("authorization rule", name)
    return rule


def put_rule(rules: dict[str, Rule], name: str, properties: Mapping[str, Any]) -> Rule:
    """Create a rule or change its rights; its keys stay. Raises ArmError."""
    if not _NAME.fullmatch(name):
        raise bad_request(f"'{name}' is no name of a rule: 1 to 50 letters, digits, '.', '-', '_'.")
    rights = _rights(properties.get("rights"))
    rule = find_rule(rules, name)
    if rule is not None:
        rule.rights = rights
        return rule
    if len(rules) >= MAX_RULES:
        raise ArmError(403, ASSUMED_RULE_QUOTA_CODE, f"There are {MAX_RULES} rules already.")
    return rules.setdefault(name.lower(), Rule(name, rights, KeyPair.generate()))


def regenerate(rule: Rule, body: Mapping[str, Any]) -> None:
    """Put a new key in place of one: tokens signed with the old one open nothing any more."""
    given = body.get("key")
    if given is not None and not (isinstance(given, str) and 0 < len(given) <= _MAX_KEY_LENGTH):
        raise bad_request("'key' is not a key.")
    key = generate_key() if given is None else Secret(given)
    match body.get("keyType"):
        case "PrimaryKey":
            rule.keys = rule.keys.with_primary(key)
        case "SecondaryKey":
            rule.keys = rule.keys.with_secondary(key)
        case _:
            raise bad_request("'keyType' is PrimaryKey or SecondaryKey.")


def _rights(names: object) -> frozenset[Right]:
    if not isinstance(names, list) or not names:
        raise bad_request("'rights' is a list of Listen, Send and Manage, and not empty.")
    try:
        rights = rule_rights(names)
    except ValueError:
        raise bad_request("'rights' knows Listen, Send and Manage.") from None
    if Right.MANAGE in rights and len(rights) != len(Right):
        raise bad_request("The right Manage needs Listen and Send beside it.")
    return rights
