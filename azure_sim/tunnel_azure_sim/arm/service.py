"""What each verb does to each kind of resource. No I/O: a request in, an answer out.

Verbs, status codes and bodies are those of azure-mgmt-relay 2.1.0 (`operations/_operations.py`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..relay.model import HybridConnection, Namespace, Rule
from .errors import ArmError, bad_request, not_found, parent_not_found
from .namespaces import availability, put_network_rules, render_network_rules
from .rendering import render_hybrid_connection, render_keys, render_namespace, render_rule
from .resource import Kind, Resource
from .rules import existing_rule, put_rule, regenerate

ASSUMED_AUTHORIZATION_DEFAULT = True
"""`requiresClientAuthorization` when a PUT does not say; it may be changed by a later PUT."""

ASSUMED_MAX_USER_METADATA = 1024
"""Characters of `userMetadata`; the limit that the same field has in Service Bus."""

# 1 to 260 characters, letters and digits at both ends (documentation "Naming rules for resources").
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, its token and api-version checked already."""

    method: str
    resource: Resource
    body: Mapping[str, Any]
    skip: int
    page_url: str
    """What the next page's address begins with; `&$skip=N` is put behind it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON body, or none."""

    status: int
    body: dict[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamespaceEntry:
    """A namespace and where it answers, as `sb://host:port/`."""

    namespace: Namespace
    endpoint: str


@dataclass(slots=True)
class ArmService:
    """The Microsoft.Relay resources of one resource group of one subscription."""

    subscription: str
    group: str
    entries: Sequence[NamespaceEntry]
    page_size: int
    keys_changed: Callable[[Namespace, Rule], None]
    """Told of new keys of a namespace's own rule, which outlive a restart."""

    def handle(self, request: Request, now: datetime) -> Answer:
        """Answer one request. Raises ArmError."""
        self._check_group(request.resource)
        match request.resource.kind:
            case Kind.NAMESPACES | Kind.NAMESPACE | Kind.NETWORK_RULES | Kind.CHECK_NAME:
                return self._namespace_level(request)
            case Kind.HYBRID_CONNECTIONS:
                return self._list_hybrid_connections(request)
            case Kind.HYBRID_CONNECTION:
                return self._hybrid_connection(request, now)
            case Kind.RULES | Kind.RULE:
                return self._rules(request)
            case Kind.LIST_KEYS | Kind.REGENERATE_KEYS:
                return self._keys(request)

    def _check_group(self, resource: Resource) -> None:
        if resource.subscription.lower() != self.subscription.lower():
            raise ArmError(
                404,
                "SubscriptionNotFound",
                f"The subscription '{resource.subscription}' could not be found.",
            )
        if resource.group is not None and resource.group.lower() != self.group.lower():
            raise ArmError(
                404,
                "ResourceGroupNotFound",
                f"Resource group '{resource.group}' could not be found.",
            )

    def _entry(self, resource: Resource) -> NamespaceEntry:
        name = resource.namespace or ""
        for entry in self.entries:
            if entry.namespace.name.lower() == name.lower():
                return entry
        if resource.kind is Kind.NAMESPACE:
            raise not_found("namespace", name)
        raise parent_not_found("namespace", name)

    def _namespace_level(self, request: Request) -> Answer:
        match request.resource.kind:
            case Kind.NETWORK_RULES:
                return self._network_rules(request)
            case Kind.CHECK_NAME:
                _allow(request, "POST")
                taken = {entry.namespace.name.lower() for entry in self.entries}
                return Answer(200, availability(request.body, taken))
            case _:
                return self._namespaces(request)

    def _namespaces(self, request: Request) -> Answer:
        _allow(request, "GET")
        if request.resource.kind is Kind.NAMESPACE:
            entry = self._entry(request.resource)
            return Answer(200, render_namespace(request.resource, entry.namespace, entry.endpoint))
        items = []
        for entry in self.entries:
            resource = Resource(
                Kind.NAMESPACE,
                request.resource.subscription,
                self.group,
                entry.namespace.name,
            )
            items.append(render_namespace(resource, entry.namespace, entry.endpoint))
        return self._page(request, items)

    def _network_rules(self, request: Request) -> Answer:
        _allow(request, "GET", "PUT")
        namespace = self._entry(request.resource).namespace
        if request.method == "PUT":
            put_network_rules(namespace, _properties(request.body))
        return Answer(200, render_network_rules(request.resource, namespace))

    def _list_hybrid_connections(self, request: Request) -> Answer:
        _allow(request, "GET")
        namespace = self._entry(request.resource).namespace
        found = sorted(namespace.hybrid_connections.values(), key=lambda one: one.name.lower())
        return self._page(
            request, [render_hybrid_connection(request.resource, one) for one in found]
        )

    def _hybrid_connection(self, request: Request, now: datetime) -> Answer:
        _allow(request, "GET", "PUT", "DELETE")
        namespace = self._entry(request.resource).namespace
        name = request.resource.hybrid_connection or ""
        if request.method == "DELETE":
            return Answer(200 if namespace.remove(name) else 204)
        if request.method == "PUT":
            _put_hybrid_connection(namespace, name, request.body, now)
        found = namespace.get(name)
        if found is None:
            raise not_found("hybrid connection", name)
        return Answer(200, render_hybrid_connection(request.resource, found))

    def _level(self, resource: Resource) -> dict[str, Rule]:
        """Return the rules of the level that a path speaks of."""
        namespace = self._entry(resource).namespace
        if resource.hybrid_connection is None:
            return namespace.rules
        found = namespace.get(resource.hybrid_connection)
        if found is None:
            raise parent_not_found("hybrid connection", resource.hybrid_connection)
        return found.rules

    def _rules(self, request: Request) -> Answer:
        rules, resource = self._level(request.resource), request.resource
        if resource.rule is None:
            _allow(request, "GET")
            return self._page(
                request, [render_rule(resource, rules[name]) for name in sorted(rules)]
            )
        _allow(request, "GET", "PUT", "DELETE")
        match request.method:
            case "PUT":
                return Answer(
                    200,
                    render_rule(
                        resource, put_rule(rules, resource.rule, _properties(request.body))
                    ),
                )
            case "DELETE":
                return Answer(200 if rules.pop(resource.rule.lower(), None) else 204)
            case _:
                return Answer(200, render_rule(resource, existing_rule(rules, resource.rule)))

    def _keys(self, request: Request) -> Answer:
        _allow(request, "POST")
        resource = request.resource
        entry = self._entry(resource)
        rule = existing_rule(self._level(resource), resource.rule or "")
        if resource.kind is Kind.REGENERATE_KEYS:
            regenerate(rule, request.body)
            if resource.hybrid_connection is None:
                self.keys_changed(entry.namespace, rule)
        return Answer(200, render_keys(rule, entry.endpoint, resource.hybrid_connection))

    def _page(self, request: Request, items: Sequence[dict[str, Any]]) -> Answer:
        end = request.skip + self.page_size
        body: dict[str, Any] = {"value": list(items[request.skip : end])}
        if end < len(items):
            body["nextLink"] = f"{request.page_url}&$skip={end}"
        return Answer(200, body)


def _put_hybrid_connection(
    namespace: Namespace, name: str, body: Mapping[str, Any], now: datetime
) -> None:
    if not _NAME.fullmatch(name):
        raise bad_request(
            f"'{name}' is no name of a hybrid connection: 1 to 260 letters, digits, '.', '-', '_', "
            "'/', with a letter or digit at both ends."
        )
    properties = _properties(body)
    required = properties.get("requiresClientAuthorization", ASSUMED_AUTHORIZATION_DEFAULT)
    metadata = properties.get("userMetadata")
    if not isinstance(required, bool):
        raise bad_request("'requiresClientAuthorization' is true or false.")
    if metadata is not None and not isinstance(metadata, str):
        raise bad_request("'userMetadata' is text.")
    if metadata is not None and len(metadata) > ASSUMED_MAX_USER_METADATA:
        raise bad_request(f"'userMetadata' has at most {ASSUMED_MAX_USER_METADATA} characters.")
    found = namespace.get(name)
    if found is None:
        found = HybridConnection(name, created_at=now, updated_at=now)
        namespace.add(found)
    found.updated_at = now
    found.requires_client_authorization = required
    found.user_metadata = metadata


def _properties(body: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = body.get("properties", {})
    if not isinstance(properties, dict):
        raise bad_request("'properties' is an object.")
    return properties


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise ArmError(
            405,
            "MethodNotAllowed",
            f"{request.method} does not apply to a resource of the kind '{request.resource.kind}'.",
        )
