"""What the simulation is told at its start."""

import ipaddress
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tunnel_forwarder.protocol.urls import RENDEZVOUS_SECONDS

from .errors import ConfigError

Clock = Callable[[], float]
"""Returns the time in seconds since 1970, UTC; an argument so that tests can decide about expiry."""

IDENTITY_PORT = 8440
ARM_PORT = 8441
RELAY_PORT = 8442
HUB_PORT = 8443
MQTT_PORT = 8883
"""azure-iot-device dials this port and no other."""

TENANT_ID = "11111111-1111-1111-1111-111111111111"
CLIENT_ID = "22222222-2222-2222-2222-222222222222"
SUBSCRIPTION_ID = "33333333-3333-3333-3333-333333333333"
RESOURCE_GROUP = "demo"


@dataclass(frozen=True, slots=True)
class NamespaceConfig:
    """One relay namespace and its own port; 0 lets the system choose."""

    name: str
    port: int = RELAY_PORT


@dataclass(frozen=True, slots=True)
class HubConfig:
    """One IoT Hub, the port of its REST API (0 lets the system choose) and the devices it knows.

    Tier and units limit it as they do in Azure; the default is the tier that limits the least.
    """

    name: str
    devices: tuple[str, ...] = ()
    port: int = HUB_PORT
    tier: str = "S3"
    units: int = 1
    daily_messages: int | None = None
    """In place of the tier's own daily quota."""

    authorities: tuple[Path, ...] = ()
    """Files of those whose signatures let devices in; in Azure they are uploaded to the hub."""


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things take or last, in seconds; the defaults are Azure's, tests shorten them."""

    rendezvous: float = RENDEZVOUS_SECONDS
    """How long a sender waits for a listener, and so how long an accept address is good for."""

    request_head: float = 10.0
    """How long a client may take to send the head of its request to the relay."""

    http_response: float = 60.0
    """How long a listener may take to answer a relayed HTTP request, and between parts of its body."""

    close: float = 5.0
    """How long a peer may take to answer a Close frame or an MQTT connection to end, before it is cut."""

    access_token: float = 3600.0
    """How long an access token of the identity plane is good for."""

    method_second: float = 1.0
    """How long one second of a direct method's time-outs lasts; IoT Hub allows none below five."""


@dataclass(frozen=True, slots=True)
class SimConfig:
    """The whole configuration; the defaults are those of the command line."""

    address: str
    state_dir: Path
    relay_namespaces: tuple[NamespaceConfig, ...] = (NamespaceConfig("demo"),)
    hubs: tuple[HubConfig, ...] = (HubConfig("demo-hub"),)
    dns_names: tuple[str, ...] = ()
    """Further names by which clients may dial any plane."""

    tenant_id: str = TENANT_ID
    client_id: str = CLIENT_ID
    subscription_id: str = SUBSCRIPTION_ID
    resource_group: str = RESOURCE_GROUP
    identity_port: int = IDENTITY_PORT
    arm_port: int = ARM_PORT
    mqtt_port: int = MQTT_PORT
    assertion_jwks: Path | None = None
    """Keys that sign the workload's assertions; without them their signature is not checked."""

    arm_page_size: int = 100
    arm_throttling: bool = False
    """Whether ARM answers 429 beyond its documented rates."""

    keep_state: bool = False
    """Whether hybrid connections, rules and registered devices outlive a restart, with the keys."""

    admin_port: int | None = None
    """Where faults, views and the reset are served, over plain HTTP; None for nowhere, 0 for any port."""

    one_way_close: bool = True
    """ASSUMED: a Close frame is passed on and the other direction stays open.

    .NET's HybridConnectionStream.Shutdown counts on it, and no document tells what the service does. False
    ends both directions at the first Close, which is the other way that it could be.
    """

    seed: int | None = None
    """Decides which listener gets which sender; None draws anew at each start."""

    timings: Timings = field(default_factory=Timings)
    clock: Clock = time.time

    def __post_init__(self) -> None:
        if _is_unspecified(self.address):
            raise ConfigError(
                f"{self.address} is no address that clients can dial; give one of this host's."
            )
        for what, names in (
            ("relay namespace", [namespace.name for namespace in self.relay_namespaces]),
            ("hub", [hub.name for hub in self.hubs]),
        ):
            if len(set(names)) != len(names):
                raise ConfigError(f"Each {what} is given once: {', '.join(names)}.")

    @classmethod
    def for_tests(
        cls,
        state_dir: Path,
        *,
        address: str | None = None,
        devices: tuple[str, ...] = ("mri-7",),
        timings: Timings | None = None,
        clock: Clock = time.time,
    ) -> "SimConfig":
        """Return a configuration for use inside a test: system-chosen ports for all but MQTT, seed 0.

        MQTT's port is fixed, so each simulation gets a loopback address of its own, which Linux has many of.
        """
        return cls(
            address=address or _some_loopback_address(),
            state_dir=state_dir,
            relay_namespaces=(NamespaceConfig("demo", port=0),),
            hubs=(HubConfig("demo-hub", devices, port=0),),
            identity_port=0,
            arm_port=0,
            seed=0,
            timings=timings or Timings(),
            clock=clock,
        )

    def relay_names(self, namespace: str) -> tuple[str, ...]:
        """Return the names by which clients may dial a relay namespace, its public one first."""
        return (self.address, *self._aliases(), f"{namespace}.servicebus.windows.net")

    def hub_names(self, hub: str) -> tuple[str, ...]:
        """Return the names by which clients may dial a hub, its public one first."""
        return (self.address, *self._aliases(), hub_fqdn(hub))

    def certificate_names(self) -> tuple[str, ...]:
        """Return all names and addresses that the server certificate is for."""
        names = [self.address, *self._aliases(), "localhost", "127.0.0.1"]
        for namespace in self.relay_namespaces:
            names += self.relay_names(namespace.name)
        for hub in self.hubs:
            names += self.hub_names(hub.name)
        return tuple(dict.fromkeys(names))

    def _aliases(self) -> tuple[str, ...]:
        local = ("localhost",) if _is_loopback(self.address) else ()
        return (*self.dns_names, *local)


def hub_fqdn(hub: str) -> str:
    """Return the name that a hub has in Azure."""
    return f"{hub}.azure-devices.net"


def _some_loopback_address() -> str:
    return f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}.{1 + secrets.randbelow(254)}"


def _is_unspecified(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
