"""What a test may look at: frozen pictures of the simulation's inside."""

from dataclasses import dataclass
from datetime import datetime

from .hub.model import Identity
from .relay.model import HybridConnection


@dataclass(frozen=True, slots=True)
class HybridConnectionView:
    """A hybrid connection with its live figures."""

    namespace: str
    name: str
    listeners: int
    streams: int
    waiting_senders: int
    requires_client_authorization: bool
    user_metadata: str | None
    rules: tuple[str, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device, or a module when `id` is `device/module`, as its hub sees it."""

    hub: str
    id: str
    enabled: bool
    connected: bool
    accepts_methods: bool
    telemetry_messages: int


def view_hybrid_connection(namespace: str, one: HybridConnection) -> HybridConnectionView:
    """Return a picture of a hybrid connection."""
    return HybridConnectionView(
        namespace=namespace,
        name=one.name,
        listeners=len(one.listeners),
        streams=len(one.streams),
        waiting_senders=len(one.waiting),
        requires_client_authorization=one.requires_client_authorization,
        user_metadata=one.user_metadata,
        rules=tuple(sorted(rule.name for rule in one.rules.values())),
        created_at=one.created_at,
        updated_at=one.updated_at,
    )


def view_device(hub: str, identity: Identity) -> DeviceView:
    """Return a picture of a device or module."""
    return DeviceView(
        hub=hub,
        id=identity.id,
        enabled=identity.enabled,
        connected=identity.connected,
        accepts_methods=identity.ready.is_set(),
        telemetry_messages=identity.telemetry_messages,
    )
