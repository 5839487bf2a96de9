"""Device twins: what a service wishes (`desired`), what a device reports, and the service's tags.

Documentation "Understand and use device twins": a patch merges, null removes, each section has a version
of its own, and a name holds neither `.`, `$`, spaces nor control characters.
"""

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .errors import Code, HubError

MAX_PROPERTIES = 32 * 1024
"""Bytes of `desired`, and of `reported`."""

MAX_TAGS = 8 * 1024
_MAX_DEPTH = 10
_FORBIDDEN = frozenset(".$ ")


@dataclass(slots=True)
class Properties:
    """One section of a twin. `at` is when it was changed last; None for never."""

    values: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    at: datetime | None = None

    def change(self, patch: Mapping[str, Any], now: datetime, *, replace: bool = False) -> None:
        """Merge a patch, or put it in place of everything. Raises HubError and changes nothing."""
        self.values = _changed(self.values, patch, MAX_PROPERTIES, replace=replace)
        self.version += 1
        self.at = now

    def to_device(self) -> dict[str, Any]:
        """Return what a device is shown."""
        return {**self.values, "$version": self.version}


@dataclass(slots=True)
class Twin:
    """One identity's twin."""

    desired: Properties = field(default_factory=Properties)
    reported: Properties = field(default_factory=Properties)
    tags: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    etag: str = field(default_factory=lambda: secrets.token_hex(6))

    def report(self, payload: bytes, now: datetime) -> int:
        """Take a device's patch of its reported properties; return their version. Raises HubError."""
        try:
            patch = json.loads(payload)
        except (ValueError, RecursionError):
            patch = None
        self.reported.change(_object(patch, "reported"), now)
        self.version += 1
        return self.reported.version

    def change(
        self, body: Mapping[str, Any], if_match: str | None, now: datetime, *, replace: bool
    ) -> dict[str, Any] | None:
        """Take a service's change; return the desired properties that it names. Raises HubError.

        What a PUT does not name is emptied, what a PATCH does not name stays.
        """
        if if_match is not None and if_match.strip('"') not in ("*", self.etag):
            raise HubError(Code.PreconditionFailed, "The twin was changed by somebody else.")
        properties = _named(body, "properties", replace=True) or {}
        desired = _named(properties, "desired", replace=replace)
        tags = _named(body, "tags", replace=replace)
        labelled = self.tags
        if tags is not None:
            labelled = _changed(self.tags, tags, MAX_TAGS, replace=replace)
        if desired is not None:
            self.desired.change(desired, now, replace=replace)
        self.tags = labelled
        self.version += 1
        self.etag = secrets.token_hex(6)
        return desired


def _named(body: Mapping[str, Any], name: str, *, replace: bool) -> dict[str, Any] | None:
    """Return an object of a body; what is not there counts as empty where all is replaced, else as None."""
    value = body.get(name)
    if value is None:
        return {} if replace else None
    return _object(value, name)


def _object(value: object, name: str) -> dict[str, Any]:
    """Return an object without what the service writes itself, `$version` and `$metadata`."""
    if not isinstance(value, dict):
        raise HubError(Code.ArgumentInvalid, f"'{name}' is not a JSON object.")
    return {key: one for key, one in value.items() if key not in ("$version", "$metadata")}


def _changed(
    old: Mapping[str, Any], patch: Mapping[str, Any], limit: int, *, replace: bool
) -> dict[str, Any]:
    _check(patch, depth=1)
    new = _merged({} if replace else old, patch)
    if len(json.dumps(new).encode()) > limit:
        raise HubError(Code.ArgumentInvalid, f"The twin's section has more than {limit} bytes.")
    return new


def _check(value: object, *, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise HubError(Code.ArgumentInvalid, f"A twin is at most {_MAX_DEPTH} levels deep.")
    if isinstance(value, float) and not math.isfinite(value):
        raise HubError(Code.ArgumentInvalid, "A twin's number is not finite.")
    if isinstance(value, list):
        for one in value:
            _check(one, depth=depth + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            if not key or not key.isprintable() or _FORBIDDEN & set(key):
                raise HubError(
                    Code.ArgumentInvalid, "A twin's name has a character it may not have."
                )
            _check(one, depth=depth + 1)


def _merged(old: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as RFC 7396 does."""
    new = dict(old)
    for key, value in patch.items():
        if value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            before = new.get(key)
            new[key] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            new[key] = value
    return new
