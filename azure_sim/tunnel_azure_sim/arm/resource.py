"""The path of an ARM request, read: no I/O.

`/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.Relay/namespaces/{n}` and what lies below. ARM
tells the fixed segments apart without regard to case.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import unquote

from .errors import ArmError

PROVIDER = "Microsoft.Relay"

_GROUP_LENGTH = 4
_KINDS = ("namespaces", "hybridConnections", "authorizationRules")
_ACTIONS = ("listKeys", "regenerateKeys", "networkRuleSets", "checkNameAvailability")


class Kind(StrEnum):
    """What a path names. The value is what the journal shows."""

    NAMESPACES = "namespaces"
    NAMESPACE = "namespace"
    HYBRID_CONNECTIONS = "hybridConnections"
    HYBRID_CONNECTION = "hybridConnection"
    RULES = "authorizationRules"
    RULE = "authorizationRule"
    LIST_KEYS = "listKeys"
    REGENERATE_KEYS = "regenerateKeys"
    NETWORK_RULES = "networkRuleSet"
    CHECK_NAME = "checkNameAvailability"


@dataclass(frozen=True, slots=True)
class Resource:
    """One path. `rule` belongs to the hybrid connection, or to the namespace when that is None."""

    kind: Kind
    subscription: str
    group: str | None
    """None for what belongs to the whole subscription."""

    namespace: str | None = None
    hybrid_connection: str | None = None
    rule: str | None = None

    @property
    def namespace_id(self) -> str:
        """The namespace's own path, as it stands in every `id` below it."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"
            f"/providers/{PROVIDER}/namespaces/{self.namespace}"
        )


def parse_path(raw_path: str) -> Resource:
    """Read a path as it stands in the request line. Raises ArmError (404) for one that is not served."""
    segments = [unquote(segment) for segment in raw_path.strip("/").split("/")]
    match segments[:_GROUP_LENGTH]:
        case [subscriptions, subscription, groups, group] if (
            subscriptions.lower() == "subscriptions" and groups.lower() == "resourcegroups"
        ):
            return _below_group(subscription, group, segments[_GROUP_LENGTH:])
        case [subscriptions, subscription, *_] if subscriptions.lower() == "subscriptions":
            return _below_subscription(subscription, segments[2:])
        case _:
            raise _not_served(raw_path)


def _below_subscription(subscription: str, rest: list[str]) -> Resource:
    match _canonical(rest):
        case ["providers", provider, "namespaces"] if provider.lower() == PROVIDER.lower():
            return Resource(Kind.NAMESPACES, subscription, None)
        case ["providers", provider, "checkNameAvailability"] if (
            provider.lower() == PROVIDER.lower()
        ):
            return Resource(Kind.CHECK_NAME, subscription, None)
        case _:
            raise _not_served("/".join(rest))


def _below_group(subscription: str, group: str, rest: list[str]) -> Resource:
    match _canonical(rest):
        case ["providers", provider, *path] if provider.lower() == PROVIDER.lower():
            pass
        case _:
            raise _not_served("/".join(rest))
    match path:
        case ["namespaces"]:
            return Resource(Kind.NAMESPACES, subscription, group)
        case ["namespaces", namespace, *tail]:
            return _below_namespace(Resource(Kind.NAMESPACE, subscription, group, namespace), tail)
        case _:
            raise _not_served("/".join(rest))


def _below_namespace(namespace: Resource, rest: list[str]) -> Resource:
    match rest:
        case []:
            return namespace
        case ["networkRuleSets", name] if name.lower() == "default":
            return replace(namespace, kind=Kind.NETWORK_RULES)
        case ["hybridConnections"]:
            return replace(namespace, kind=Kind.HYBRID_CONNECTIONS)
        case ["hybridConnections", name]:
            return replace(namespace, kind=Kind.HYBRID_CONNECTION, hybrid_connection=name)
        case ["hybridConnections", name, "authorizationRules", *tail]:
            kind, rule = _rule(tail)
            return replace(namespace, kind=kind, hybrid_connection=name, rule=rule)
        case ["authorizationRules", *tail]:
            kind, rule = _rule(tail)
            return replace(namespace, kind=kind, rule=rule)
        case _:
            raise _not_served("/".join(rest))


def _rule(tail: list[str]) -> tuple[Kind, str | None]:
    match tail:
        case []:
            return Kind.RULES, None
        case [rule]:
            return Kind.RULE, rule
        case [rule, "listKeys"]:
            return Kind.LIST_KEYS, rule
        case [rule, "regenerateKeys"]:
            return Kind.REGENERATE_KEYS, rule
        case _:
            raise _not_served("/".join(tail))


def _canonical(segments: list[str]) -> list[str]:
    """Return the segments with the fixed ones in their usual spelling: each second one, from the first."""
    known = {name.lower(): name for name in ("providers", *_KINDS, *_ACTIONS)}
    return [
        known.get(segment.lower(), segment) if index % 2 == 0 else segment
        for index, segment in enumerate(segments)
    ]


def _not_served(path: str) -> ArmError:
    return ArmError(404, "InvalidResourceType", f"Nothing is served at '{path}'.")
