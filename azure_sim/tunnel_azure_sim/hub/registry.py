"""The identity registry: devices and modules are made, changed, listed and removed.

Documentation "Understand the identity registry" and REST reference, 2021-04-12.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.secret import Secret

from ..state import KeyPair
from .errors import Code, HubError
from .model import Hub, Identity

MAX_MODULES = 50
"""Modules that one device may have (documentation "IoT Hub quotas", other limits)."""

MAX_LISTED = 1000
"""Devices that a list holds at most (REST reference, "Get devices")."""

_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}")
"""Documentation "Understand the identity registry": device identity properties."""

_THUMBPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
"""SHA-1 or SHA-256 (same document)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How an identity signs in: by keys, by its certificates' thumbprints, or by who signed them."""

    keys: KeyPair
    thumbprints: tuple[str, str] | None
    by_authority: bool = False


@dataclass(frozen=True, slots=True)
class Registry:
    """Changes one hub's identities."""

    hub: Hub
    now: Callable[[], datetime]

    def put(self, name: str, body: Mapping[str, Any], if_match: str | None) -> Identity:
        """Make an identity, or change the one that `if_match` knows. Raises HubError."""
        _check_names(name, body)
        device, _, module = name.partition("/")
        if module:
            self.hub.existing(device)
        known = self.hub.identities.get(name)
        if known is None:
            return self._make(name, body)
        if if_match is None:
            raise HubError(
                Code.ModuleAlreadyExistsOnDevice if module else Code.DeviceAlreadyExists,
                f"'{name}' is registered already.",
            )
        _check_match(known, if_match)
        _change(known, body)
        known.etag = secrets.token_hex(6)
        if not known.enabled:
            self._end_sessions(name)
        return known

    def remove(self, name: str, if_match: str | None) -> None:
        """Forget an identity and end its connections. Raises HubError."""
        _check_match(self.hub.existing(name), if_match)
        self.hub.remove(name)

    def listed(self, top: str | None) -> list[Identity]:
        """Return the first devices, as many as `top` says and a list may hold. Raises HubError."""
        return self.hub.devices()[: number(top, MAX_LISTED, "top")]

    def _make(self, name: str, body: Mapping[str, Any]) -> Identity:
        device, _, module = name.partition("/")
        if module and len(self.hub.modules(device)) >= MAX_MODULES:
            raise HubError(
                Code.TooManyModulesOnDevice, f"A device has at most {MAX_MODULES} modules."
            )
        made = Identity(name, KeyPair.generate(), self.now())
        _change(made, body)
        self.hub.identities[name] = made
        return made

    def _end_sessions(self, name: str) -> None:
        """End the connections of a device that was disabled, and of its modules."""
        for identity in (self.hub.existing(name), *self.hub.modules(name)):
            identity.end_session(Code.DeviceNotFound)


def identity_name(device: str, module: list[str]) -> str:
    """Return `device` or `device/module` for the end of a path. Raises HubError."""
    match module:
        case []:
            names = [device]
        case ["modules", name]:
            names = [device, name]
        case _:
            raise HubError(Code.GenericNotFound, "Nothing is served here.")
    if not all(_ID.fullmatch(name) for name in names):
        raise HubError(Code.ArgumentInvalid, "An id has characters that are not allowed.")
    return "/".join(names)


def number(text: str | None, highest: int, name: str) -> int:
    """Return how many things are asked for, which is at most `highest`. Raises HubError."""
    if text is None:
        return highest
    # Longer ones are out of range, and Python refuses to read the longest.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(highest))):
        raise HubError(Code.ArgumentInvalid, f"'{name}' must be within [1; {highest}].")
    if not 1 <= int(text) <= highest:
        raise HubError(Code.ArgumentInvalid, f"'{name}' must be within [1; {highest}].")
    return int(text)


def _check_names(name: str, body: Mapping[str, Any]) -> None:
    device, _, module = name.partition("/")
    for field, expected in (("deviceId", device), ("moduleId", module or None)):
        if body.get(field, expected) != expected:
            raise HubError(Code.ArgumentInvalid, f"'{field}' is not the one of the path.")


def _check_match(identity: Identity, if_match: str | None) -> None:
    if if_match is not None and if_match.strip('"') not in ("*", identity.etag):
        raise HubError(Code.PreconditionFailed, "The identity was changed by somebody else.")


def _change(identity: Identity, body: Mapping[str, Any]) -> None:
    """Take the status and the credentials from a PUT's body. Raises HubError and changes nothing."""
    match body.get("status"):
        case None | "enabled":
            enabled = True
        case "disabled":
            enabled = False
        case _:
            raise HubError(Code.ArgumentInvalid, "'status' is enabled or disabled.")
    known = Credentials(identity.keys, identity.thumbprints, identity.by_authority)
    wanted = _credentials(body.get("authentication"), known)
    identity.enabled, identity.keys = enabled, wanted.keys
    identity.thumbprints, identity.by_authority = wanted.thumbprints, wanted.by_authority


def _credentials(authentication: object, known: Credentials) -> Credentials:
    match authentication:
        case {"type": "certificateAuthority"}:
            return Credentials(known.keys, None, by_authority=True)
        case {"type": "selfSigned", "x509Thumbprint": dict(prints)}:
            first, second = prints.get("primaryThumbprint"), prints.get("secondaryThumbprint")
            return Credentials(known.keys, (_thumbprint(first), _thumbprint(second or first)))
        case {"type": "selfSigned"}:
            raise HubError(Code.ArgumentNull, "'x509Thumbprint' is missing.")
        case {"symmetricKey": {"primaryKey": str(primary), "secondaryKey": str(secondary)}} if (
            primary and secondary
        ):
            return Credentials(_keys(primary, secondary), None)
        case {"type": "sas" | None}:
            return Credentials(known.keys, None)
        case {"type": _}:
            raise HubError(Code.ArgumentInvalid, "'authentication.type' is not known.")
        case _:
            return known


def _keys(primary: str, secondary: str) -> KeyPair:
    try:
        sas.hub_key(primary), sas.hub_key(secondary)
    except (ProtocolError, ValueError) as error:
        raise HubError(Code.ArgumentInvalid, str(error)) from None
    return KeyPair(Secret(primary), Secret(secondary))


def _thumbprint(value: object) -> str:
    text = value.upper() if isinstance(value, str) else ""
    if not _THUMBPRINT.fullmatch(text):
        raise HubError(Code.ArgumentInvalid, "A thumbprint has 40 or 64 hexadecimal digits.")
    return text
