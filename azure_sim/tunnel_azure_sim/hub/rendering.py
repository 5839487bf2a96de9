"""Devices, modules and twins as JSON, as azure-iot-hub reads them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .model import Identity
from .twins import Properties

_NEVER = "0001-01-01T00:00:00Z"


def render_identity(identity: Identity) -> dict[str, Any]:
    """Return a device or module of the identity registry. The answer holds its keys."""
    device, _, module = identity.id.partition("/")
    body: dict[str, Any] = {
        "deviceId": device,
        "generationId": identity.generation_id,
        "etag": identity.etag,
        "connectionState": _state(identity),
        "connectionStateUpdatedTime": _time(identity.state_changed_at),
        "lastActivityTime": _time(identity.last_activity_at),
        "cloudToDeviceMessageCount": 0,
        "authentication": _authentication(identity),
    }
    if module:
        return body | {"moduleId": module}
    return body | {
        "status": _status(identity),
        "statusReason": None,
        "statusUpdatedTime": _NEVER,
        "capabilities": {"iotEdge": False},
    }


def render_twin(identity: Identity) -> dict[str, Any]:
    """Return a twin. Its metadata tell of each section when it was changed, and not of each property."""
    device, _, module = identity.id.partition("/")
    twin = identity.twin
    body: dict[str, Any] = {
        "deviceId": device,
        "etag": twin.etag,
        "deviceEtag": identity.etag,
        "version": twin.version,
        "status": _status(identity),
        "connectionState": _state(identity),
        "lastActivityTime": _time(identity.last_activity_at),
        "authenticationType": _type(identity),
        "properties": {
            "desired": _section(twin.desired),
            "reported": _section(twin.reported),
        },
        "tags": twin.tags,
    }
    return body | {"moduleId": module} if module else body


def render_statistics(devices: Sequence[Identity], kind: str) -> dict[str, Any]:
    """Return the numbers of devices: of the registry (`devices`) or of connections (`service`)."""
    if kind == "service":
        return {"connectedDeviceCount": sum(one.connected for one in devices)}
    enabled = sum(one.enabled for one in devices)
    return {
        "totalDeviceCount": len(devices),
        "enabledDeviceCount": enabled,
        "disabledDeviceCount": len(devices) - enabled,
    }


def _authentication(identity: Identity) -> dict[str, Any]:
    has_keys = _type(identity) == "sas"
    first, second = identity.thumbprints or (None, None)
    return {
        "type": _type(identity),
        "symmetricKey": {
            "primaryKey": identity.keys.primary.reveal() if has_keys else None,
            "secondaryKey": identity.keys.secondary.reveal() if has_keys else None,
        },
        "x509Thumbprint": {"primaryThumbprint": first, "secondaryThumbprint": second},
    }


def _section(properties: Properties) -> dict[str, Any]:
    return {**properties.to_device(), "$metadata": {"$lastUpdated": _time(properties.at)}}


def _type(identity: Identity) -> str:
    if identity.by_authority:
        return "certificateAuthority"
    return "sas" if identity.thumbprints is None else "selfSigned"


def _state(identity: Identity) -> str:
    return "Connected" if identity.connected else "Disconnected"


def _status(identity: Identity) -> str:
    return "enabled" if identity.enabled else "disabled"


def _time(moment: datetime | None) -> str:
    return _NEVER if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
