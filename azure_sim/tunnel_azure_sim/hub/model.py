"""Hubs, their access policies, and the devices and modules that they know."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from ..state import KeyPair
from .certificates import Authorities
from .errors import Code, HubError
from .limits import Meter
from .twins import Twin

ASSUMED_MAX_ACTIVE_METHODS = 50
"""Calls that one device may have open; beyond it IoT Hub answers 403800, its limit is not documented."""


ASSUMED_EVICTED_CODE = Code.ConnectionForcefullyClosedOnNewConnection
"""What a call gets whose device connects anew before it has answered."""


class Permission(StrEnum):
    """What a policy allows (documentation "Control access to IoT Hub")."""

    REGISTRY_READ = "RegistryRead"
    REGISTRY_WRITE = "RegistryWrite"
    SERVICE_CONNECT = "ServiceConnect"
    DEVICE_CONNECT = "DeviceConnect"


BUILT_IN_POLICIES: Mapping[str, frozenset[Permission]] = {
    "iothubowner": frozenset(Permission),
    "service": frozenset({Permission.SERVICE_CONNECT}),
    "device": frozenset({Permission.DEVICE_CONNECT}),
    "registryRead": frozenset({Permission.REGISTRY_READ}),
    "registryReadWrite": frozenset({Permission.REGISTRY_READ, Permission.REGISTRY_WRITE}),
}
"""The policies that each hub is born with (same document)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A named pair of keys with permissions."""

    name: str
    permissions: frozenset[Permission]
    keys: KeyPair = field(repr=False)


@dataclass(frozen=True, slots=True)
class MethodAnswer:
    """A device's answer to a direct method; the payload is JSON already read."""

    status: int
    payload: Any
    size: int = 0
    """Bytes of the payload as they came."""


class Session(Protocol):
    """A device's live connection."""

    def send_method(self, request_id: str, name: str, payload: bytes) -> None:
        """Pass a direct method call on."""

    def send_desired(self, patch: Mapping[str, Any], version: int) -> None:
        """Tell of changed desired properties, if the device wants to hear of them."""

    def end(self, code: Code) -> None:
        """Close it from the hub's side, for a reason that open calls are told; ended counts as ended."""


@dataclass(slots=True)
class Identity:
    """A device, or a module when `id` is `device/module`. Ids are told apart by case."""

    id: str
    keys: KeyPair = field(repr=False)
    created_at: datetime
    enabled: bool = True
    thumbprints: tuple[str, str] | None = None
    """Of the two certificates that let it in, in place of its keys: SHA-1 or SHA-256, in capitals."""

    by_authority: bool = False
    """Whether a certificate that one of the hub's authorities signed lets it in, in place of its keys."""

    etag: str = field(default_factory=lambda: secrets.token_hex(6))
    generation_id: str = field(default_factory=lambda: str(secrets.randbelow(10**18)))
    session: Session | None = None
    state_changed_at: datetime | None = None
    last_activity_at: datetime | None = None
    telemetry_messages: int = 0
    twin: Twin = field(default_factory=Twin)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the device is connected and subscribed to direct methods."""

    filters: set[str] = field(default_factory=set)
    """What a client that connects without CleanSession has subscribed to, now or before."""

    calls: dict[str, "asyncio.Future[MethodAnswer]"] = field(default_factory=dict)
    """Open direct method calls by request id."""

    @property
    def connected(self) -> bool:
        """Whether the device has a live connection."""
        return self.session is not None

    def attach(self, session: Session, now: datetime) -> None:
        """Take a new connection; an older one of the same id is ended (documented)."""
        if self.session is not None:
            self.session.end(ASSUMED_EVICTED_CODE)
        self.session = session
        self.state_changed_at = self.last_activity_at = now

    def detach(self, session: Session, code: Code, now: datetime) -> None:
        """Let a connection go; open calls are told why. A connection of the past changes nothing."""
        if self.session is not session:
            return
        self.session = None
        self.state_changed_at = now
        self.ready.clear()
        calls, self.calls = self.calls, {}
        for call in calls.values():
            if not call.done():
                call.set_exception(HubError(code, "The device's connection was closed."))

    def end_session(self, code: Code) -> None:
        """Close the connection, if there is one."""
        if self.session is not None:
            self.session.end(code)


@dataclass(slots=True)
class Hub:
    """One IoT Hub."""

    name: str
    host_names: tuple[str, ...]
    policies: dict[str, Policy]
    meter: Meter = field(repr=False)
    identities: dict[str, Identity] = field(default_factory=dict)
    authorities: Authorities = ()
    """Those whose signatures let devices in."""

    save: Callable[[], None] = lambda: None
    """Called when a device has changed what outlives a restart, before it is answered."""

    def existing(self, identity: str) -> Identity:
        """Return a device or module. Raises HubError (404001, 404010) when it is not registered."""
        found = self.identities.get(identity)
        if found is None:
            device, _, module = identity.partition("/")
            if module and device in self.identities:
                raise HubError(Code.ModuleNotFound, f"The module '{identity}' is not registered.")
            raise HubError(Code.DeviceNotFound, f"The device '{device}' is not registered.")
        return found

    def devices(self) -> list[Identity]:
        """Return the devices, without their modules, in the order in which they were registered."""
        return [one for key, one in self.identities.items() if "/" not in key]

    def modules(self, device: str) -> list[Identity]:
        """Return a device's modules."""
        return [one for key, one in self.identities.items() if key.startswith(f"{device}/")]

    def enabled(self, identity: str) -> Identity:
        """Return a device or module; a disabled one counts as not registered (documented)."""
        found = self.existing(identity)
        if not found.enabled or not self.existing(identity.partition("/")[0]).enabled:
            raise HubError(Code.DeviceNotFound, f"The device '{identity}' is disabled.")
        return found

    def remove(self, identity: str) -> None:
        """Forget a device with its modules, or a module, and end its connections."""
        for name in [
            key for key in self.identities if key == identity or key.startswith(f"{identity}/")
        ]:
            self.identities.pop(name).end_session(Code.DeviceNotFound)
