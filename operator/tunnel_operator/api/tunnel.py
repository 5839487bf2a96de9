"""The Tunnel resource. Field for field the CRD in crds/tunnels.yaml; a test holds the two together."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

from .base import Duration, Model, ObjectMeta, Time
from .conditions import Condition
from .keys import Key
from .reasons import Reason

PLURAL = "tunnels"
KIND = "Tunnel"
FINALIZER = "tunnels.dev/cleanup"


class Protocol(StrEnum):
    """What is spoken on a port. The tunnel carries TCP whatever it is."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TCP = "TCP"


class Device(Model):
    """The device at the far end, or one of its modules."""

    id: str
    module: str | None = None

    def __str__(self) -> str:
        return self.id if self.module is None else f"{self.id}/{self.module}"


class Port(Model):
    """One port of the device."""

    name: str
    port: int
    target: str | None = None
    protocol: Protocol = Protocol.TCP

    def target_address(self) -> tuple[str, int]:
        """Return the host and port that the device connects to."""
        host, _, port = (self.target or f"localhost:{self.port}").rpartition(":")
        return host.strip("[]"), int(port)


ServiceType = Literal["ClusterIP", "NodePort", "LoadBalancer"]


class ServiceExposure(Model):
    """The Service."""

    type: ServiceType = "ClusterIP"
    annotations: Mapping[str, str] = {}


class IngressExposure(Model):
    """The Ingress, for one HTTP port."""

    host: str | None = None
    port_name: str | None = None
    tls_secret_name: str | None = None


class RouteExposure(Model):
    """A route of the Gateway API, for one port."""

    port_name: str | None = None
    section_name: str | None = None


class HostRouteExposure(RouteExposure):
    """A route by host name."""

    host: str | None = None


class GatewayExposure(Model):
    """The routes of the class's Gateway that lead to the tunnel, at most one of each kind."""

    http: HostRouteExposure | None = None
    tls: HostRouteExposure | None = None
    tcp: RouteExposure | None = None


class Expose(Model):
    """How the tunnel is reached."""

    service: ServiceExposure = ServiceExposure()
    ingress: IngressExposure | None = None
    gateway: GatewayExposure | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names that are asked for, not those that are made under the class's domain."""
        gateway = self.gateway or GatewayExposure()
        wishes = (self.ingress, gateway.http, gateway.tls)
        return tuple(wish.host for wish in wishes if wish is not None and wish.host is not None)


class Requirement(Model):
    """One condition on a label."""

    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: tuple[str, ...] | None = None


class Selector(Model):
    """A label selector; an empty one selects everything."""

    match_labels: Mapping[str, str] | None = None
    match_expressions: tuple[Requirement, ...] | None = None


class Client(Model):
    """Who may reach the tunnel inside the cluster: Pods, or addresses."""

    pod_selector: Selector | None = None
    namespace_selector: Selector | None = None
    cidr: str | None = None


class TunnelSpec(Model):
    """What is wanted."""

    tunnel_class_name: str | None = None
    device: Device
    reason: str | None = None
    ports: tuple[Port, ...]
    expose: Expose = Expose()
    allowed_clients: tuple[Client, ...] | None = None
    ttl: Duration | None = None
    idle_timeout: Duration | None = None
    suspend: bool = False
    renewals: int = 0


class Endpoint(Model):
    """Where one port is reached inside the cluster, and by which host name from outside if it has one."""

    name: str
    address: str
    host: str | None = None


class HybridConnectionStatus(Model):
    """The rendezvous in Azure Relay."""

    name: str


class DeviceStatus(Model):
    """What the device last agreed to."""

    agent: str | None = None
    revision: str


class SessionStatus(Model):
    """How the last session ended; it is not opened again for the same generation of the spec."""

    generation: int
    ended_at: Time
    reason: Literal[Reason.EXPIRED, Reason.IDLE, Reason.SUSPENDED]
    connections: int | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    last_activity: Time | None = None


class TunnelStatus(Model):
    """What is seen. The records are `tunnel_class_name`, `opened_at`, `session` and `device`: nothing else remembers them."""

    observed_generation: int | None = None
    tunnel_class_name: str | None = None
    url: str | None = None
    endpoints: tuple[Endpoint, ...] = ()
    hybrid_connection: HybridConnectionStatus | None = None
    device: DeviceStatus | None = None
    opened_at: Time | None = None
    expires_at: Time | None = None
    session: SessionStatus | None = None
    conditions: tuple[Condition, ...] = ()

    def condition(self, kind: str) -> Condition | None:
        """Return the condition of a type, if it is there."""
        return next((c for c in self.conditions if c.type == kind), None)


class Tunnel(Model):
    """One on-demand way to one device's ports, with a lifetime."""

    metadata: ObjectMeta
    spec: TunnelSpec
    status: TunnelStatus = TunnelStatus()

    @property
    def key(self) -> Key:
        """Its name, within all namespaces."""
        return Key(self.metadata.namespace, self.metadata.name)

    @property
    def is_gone(self) -> bool:
        """Whether nothing holds its deletion up any more; the API server shows it so once, as an answer."""
        return self.is_deleting and not self.metadata.finalizers

    @property
    def is_deleting(self) -> bool:
        """Whether someone has deleted it."""
        return self.metadata.deletion_timestamp is not None

    def is_like(self, other: "Tunnel") -> bool:
        """Tell whether people want the same of it as of an earlier state of it."""
        mine, theirs = self.metadata, other.metadata
        return (mine.uid, mine.generation, self.is_deleting) == (
            theirs.uid,
            theirs.generation,
            other.is_deleting,
        )

    @property
    def has_finalizer(self) -> bool:
        """Whether something may exist in Azure or on the device. Without it, nothing does."""
        return FINALIZER in self.metadata.finalizers

    @property
    def is_running(self) -> bool:
        """Whether it was opened, and that session has not ended."""
        status = self.status
        return self.has_finalizer and status.opened_at is not None and status.session is None

    def __str__(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"
