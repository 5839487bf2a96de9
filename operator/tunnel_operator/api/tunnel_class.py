"""The TunnelClass resource. Field for field the CRD in crds/tunnelclasses.yaml."""

import base64
import binascii
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from .base import Duration, Model, ObjectMeta
from .tunnel import Selector, ServiceType

PLURAL = "tunnelclasses"
KIND = "TunnelClass"
DEFAULT_ANNOTATION = "tunnelclass.tunnels.dev/is-default-class"
DEFAULT_CONTROLLER = "tunnels.dev/operator"


class Relay(Model):
    """The Azure Relay namespace."""

    subscription_id: str
    resource_group: str
    namespace: str
    endpoint: str | None = None
    resource_manager_endpoint: str = "https://management.azure.com"
    resource_manager_audience: str = "https://management.azure.com/.default"
    ca_bundle: str | None = None

    @property
    def endpoint_or_default(self) -> str:
        """Where the namespace answers: in the public cloud unless said otherwise."""
        return self.endpoint or f"sb://{self.namespace}.servicebus.windows.net/"

    def ca_pem(self) -> str | None:
        """Return the extra authorities in PEM. Raises ValueError when they are not base64 text."""
        if self.ca_bundle is None:
            return None
        try:
            return base64.b64decode(self.ca_bundle, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("spec.relay.caBundle is not PEM text in base64.") from None


class SecretKeyRef(Model):
    """A key of a Secret in the operator's own namespace."""

    name: str
    key: str = "connectionString"


class IoTHub(Model):
    """The IoT Hub that the devices are registered with."""

    host_name: str
    connection_string_secret_ref: SecretKeyRef | None = None
    open_method: str = "CreateConnection"
    close_method: str = "DeleteConnection"
    response_timeout_seconds: int = 30
    connect_timeout_seconds: int = 10


class Resources(Model):
    """The forwarder's requests and limits, as of a container."""

    requests: Mapping[str, str | int] = {"cpu": "10m", "memory": "48Mi"}
    limits: Mapping[str, str | int] = {"memory": "128Mi"}


class PodMetadata(Model):
    """Labels and annotations besides the operator's own."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}


class Toleration(Model):
    """A taint that forwarders do not mind."""

    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Affinity(Model):
    """As of a Pod; the API server judges what is in it when the Pod is made."""

    node_affinity: Mapping[str, Any] | None = None
    pod_affinity: Mapping[str, Any] | None = None
    pod_anti_affinity: Mapping[str, Any] | None = None


class TopologySpread(Model):
    """How all forwarders together are spread."""

    max_skew: int
    topology_key: str
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]


class SecretName(Model):
    """A Secret in the Tunnel's namespace."""

    name: str


class PodSettings(Model):
    """Where and how a forwarder's Pod runs. Nothing here touches what runs in it, or with which rights."""

    node_selector: Mapping[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = None
    affinity: Affinity | None = None
    topology_spread_constraints: tuple[TopologySpread, ...] | None = None
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    scheduler_name: str | None = None
    image_pull_secrets: tuple[SecretName, ...] | None = None


class PodTemplate(Model):
    """What is added to a forwarder's Pod."""

    metadata: PodMetadata = PodMetadata()
    spec: PodSettings = PodSettings()


class Forwarder(Model):
    """The Pods that carry the tunnels."""

    image: str | None = None
    image_pull_policy: str = "IfNotPresent"
    warm_connections: int = 2
    max_warm_connections: int = 8
    multiplex: bool = False
    resources: Resources = Resources()
    pod_template: PodTemplate = PodTemplate()

    @property
    def most_warm(self) -> int:
        """How far the warm connections may grow; 0 where none are to be kept."""
        return max(self.warm_connections, self.max_warm_connections) if self.warm_connections else 0


class Gateway(Model):
    """The Gateway that routes are attached to. It is the platform's, and only named here."""

    name: str
    namespace: str
    section_name: str | None = None
    scheme: Literal["http", "https"] = "http"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Exposure(Model):
    """How tunnels are reached from outside the cluster."""

    gateway: Gateway | None = None
    ingress_class_name: str | None = None
    domain: str | None = None
    ingress_annotations: Mapping[str, str] = {}
    allowed_service_types: tuple[ServiceType, ...] = ()
    allowed_service_annotations: tuple[str, ...] = ()
    allowed_domains: tuple[str, ...] | None = None

    @property
    def service_types(self) -> tuple[ServiceType, ...]:
        """Which types of Service Tunnels may have; ClusterIP is always one of them."""
        return ("ClusterIP", *(kind for kind in self.allowed_service_types if kind != "ClusterIP"))

    @property
    def domains(self) -> tuple[str, ...] | None:
        """Where Tunnels' host names have to be; None where they may be anywhere."""
        if self.allowed_domains is None or self.domain is None:
            return self.allowed_domains
        return (*self.allowed_domains, self.domain)


class AccessRule(Model):
    """Namespaces, and what Tunnels in them may reach. What is left out is not restricted."""

    namespaces: Selector | None = None
    devices: tuple[str, ...] | None = None
    ports: tuple[int, ...] | None = None
    max_ttl: Duration | None = Field(None, alias="maxTTL")


class Limits(Model):
    """The lifetimes that Tunnels get, and how many may be open."""

    default_ttl: Duration = Field(timedelta(hours=1), alias="defaultTTL")
    max_ttl: Duration = Field(timedelta(hours=12), alias="maxTTL")
    idle_timeout: Duration = timedelta(minutes=15)
    max_tunnels_per_namespace: int | None = None


class Naming(StrEnum):
    """After what a hybrid connection is named."""

    TUNNEL = "Tunnel"
    DEVICE = "Device"


class DeletionPolicy(StrEnum):
    """What becomes of the hybrid connection of a closed Tunnel."""

    DELETE = "Delete"
    RETAIN = "Retain"


class TunnelClassSpec(Model):
    """Which services to use, and within which limits."""

    controller_name: str = DEFAULT_CONTROLLER
    hybrid_connection_naming: Naming = Naming.TUNNEL
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    port_name: str | None = None
    relay: Relay
    iot_hub: IoTHub
    forwarder: Forwarder = Forwarder()
    exposure: Exposure = Exposure()
    limits: Limits = Limits()
    access: tuple[AccessRule, ...] | None = None


class TunnelClass(Model):
    """What a platform engineer offers to those who write Tunnels."""

    metadata: ObjectMeta
    spec: TunnelClassSpec

    @property
    def is_default(self) -> bool:
        """Whether Tunnels that name no class are of this one."""
        return self.metadata.annotations.get(DEFAULT_ANNOTATION) == "true"
