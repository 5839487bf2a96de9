"""What clients made, written down so that it outlives the process: `state.json` in the state directory.

Hybrid connections, rules with their keys, network rules, devices and modules. Written before a change is
answered, at one blow, so that even a killed process has what its clients were told it has.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tunnel_forwarder.protocol.secret import Secret

from .errors import StateError
from .hub.model import Hub, Identity
from .hub.twins import Properties, Twin
from .relay.model import ROOT_RULE, HybridConnection, Namespace, Rule, rule_rights
from .state import KeyPair, write_atomically

STATE_FILE = "state.json"
_VERSION = 1


class Snapshot:
    """The file; None for a directory keeps nothing, and nothing is restored."""

    def __init__(self, directory: Path | None) -> None:
        self._file = None if directory is None else directory / STATE_FILE
        self._written = ""
        self._found: Mapping[str, Any] = {}
        if self._file is not None and self._file.exists():
            self._written = self._file.read_text()
            self._found = _parse(self._written, self._file)

    def restore_namespace(self, namespace: Namespace) -> None:
        """Give a namespace what it had; its root rule keeps the keys that it has."""
        found = self._found.get("namespaces", {}).get(namespace.name)
        if found is None:
            return
        with _reading():
            rules = _read_rules(found["rules"])
            rules.pop(ROOT_RULE.lower(), None)
            namespace.rules.update(rules)
            namespace.network_rules = dict(found["networkRules"])
            for one in found["hybridConnections"]:
                namespace.add(_read_hybrid_connection(one))

    def restore_hub(self, hub: Hub) -> None:
        """Give a hub the devices and modules that it knew; those of its configuration are there anyhow."""
        found = self._found.get("hubs", {}).get(hub.name)
        if found is None:
            return
        with _reading():
            for one in found:
                hub.identities[one["id"]] = _read_identity(one)

    def save(self, namespaces: Iterable[Namespace], hubs: Iterable[Hub]) -> None:
        """Write everything down, if something has changed."""
        if self._file is None:
            return
        body = {
            "version": _VERSION,
            "namespaces": {one.name: _namespace(one) for one in namespaces},
            "hubs": {hub.name: [_identity(one) for one in hub.identities.values()] for hub in hubs},
        }
        text = json.dumps(body, indent=1) + "\n"
        if text != self._written:
            write_atomically(self._file, text)
            self._written = text


def _parse(text: str, file: Path) -> Mapping[str, Any]:
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.get("version") != _VERSION:
        # The cause would quote the file's text, which holds keys.
        raise StateError(f"{file} can not be read; remove it to start anew.") from None
    return body


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever is wrong with the file's content into the one error for that."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError):
        raise StateError(f"{STATE_FILE} can not be read; remove it to start anew.") from None


def _namespace(namespace: Namespace) -> dict[str, Any]:
    return {
        "rules": _rules(namespace.rules),
        "networkRules": namespace.network_rules,
        "hybridConnections": [
            {
                "name": one.name,
                "createdAt": one.created_at.isoformat(),
                "updatedAt": one.updated_at.isoformat(),
                "requiresClientAuthorization": one.requires_client_authorization,
                "userMetadata": one.user_metadata,
                "rules": _rules(one.rules),
            }
            for one in namespace.hybrid_connections.values()
        ],
    }


def _read_hybrid_connection(raw: Mapping[str, Any]) -> HybridConnection:
    return HybridConnection(
        raw["name"],
        created_at=datetime.fromisoformat(raw["createdAt"]),
        updated_at=datetime.fromisoformat(raw["updatedAt"]),
        requires_client_authorization=raw["requiresClientAuthorization"],
        user_metadata=raw["userMetadata"],
        rules=_read_rules(raw["rules"]),
    )


def _rules(rules: Mapping[str, Rule]) -> list[dict[str, Any]]:
    return [
        {"name": rule.name, "rights": sorted(rule.rights), **_keys(rule.keys)}
        for rule in rules.values()
    ]


def _read_rules(raw: Iterable[Mapping[str, Any]]) -> dict[str, Rule]:
    rules = [Rule(one["name"], rule_rights(one["rights"]), _read_keys(one)) for one in raw]
    return {rule.name.lower(): rule for rule in rules}


def _identity(one: Identity) -> dict[str, Any]:
    return {
        "id": one.id,
        "createdAt": one.created_at.isoformat(),
        "enabled": one.enabled,
        "thumbprints": one.thumbprints,
        "byAuthority": one.by_authority,
        "etag": one.etag,
        "generationId": one.generation_id,
        "twin": _twin(one.twin),
        "filters": sorted(one.filters),
        **_keys(one.keys),
    }


def _read_identity(raw: Mapping[str, Any]) -> Identity:
    prints = raw["thumbprints"]
    return Identity(
        raw["id"],
        _read_keys(raw),
        datetime.fromisoformat(raw["createdAt"]),
        enabled=raw["enabled"],
        thumbprints=None if prints is None else (prints[0], prints[1]),
        by_authority=bool(raw.get("byAuthority")),
        etag=raw["etag"],
        generation_id=raw["generationId"],
        # A file of before there were twins has none, and one of before filters were kept neither.
        twin=_read_twin(raw["twin"]) if "twin" in raw else Twin(),
        filters=set(raw.get("filters", ())),
    )


def _twin(twin: Twin) -> dict[str, Any]:
    return {
        "desired": _properties(twin.desired),
        "reported": _properties(twin.reported),
        "tags": twin.tags,
        "version": twin.version,
        "etag": twin.etag,
    }


def _read_twin(raw: Mapping[str, Any]) -> Twin:
    return Twin(
        _read_properties(raw["desired"]),
        _read_properties(raw["reported"]),
        dict(raw["tags"]),
        int(raw["version"]),
        str(raw["etag"]),
    )


def _properties(section: Properties) -> dict[str, Any]:
    at = None if section.at is None else section.at.isoformat()
    return {"values": section.values, "version": section.version, "at": at}


def _read_properties(raw: Mapping[str, Any]) -> Properties:
    at = None if raw["at"] is None else datetime.fromisoformat(raw["at"])
    return Properties(dict(raw["values"]), int(raw["version"]), at)


def _keys(pair: KeyPair) -> dict[str, str]:
    return {"primaryKey": pair.primary.reveal(), "secondaryKey": pair.secondary.reveal()}


def _read_keys(raw: Mapping[str, Any]) -> KeyPair:
    return KeyPair(Secret(str(raw["primaryKey"])), Secret(str(raw["secondaryKey"])))
