"""What a Tunnel and its TunnelClass come to together, or why they do not."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.method import Forward
from tunnel_forwarder.protocol.urls import RelayEndpoint

from ..api.base import format_duration
from ..api.reasons import Reason
from ..api.tunnel import IngressExposure, Port, Protocol, Tunnel
from ..api.tunnel_class import Naming, TunnelClass, TunnelClassSpec
from . import names
from .class_choice import class_name_of


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a Tunnel is not carried out, for a person to mend."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class IngressTerms:
    """The one HTTP port that is put behind an Ingress."""

    host: str
    port: Port
    tls_secret_name: str | None

    @property
    def url(self) -> str:
        """Where a browser goes."""
        return f"{'https' if self.tls_secret_name else 'http'}://{self.host}"


@dataclass(frozen=True, slots=True)
class Terms:
    """A Tunnel with every default filled in and every limit kept."""

    klass: TunnelClassSpec
    class_name: str
    image: str
    endpoint: RelayEndpoint
    ca_pem: str | None
    hybrid_connection: str
    ttl: timedelta
    idle_timeout: timedelta
    ingress: IngressTerms | None
    forwards: tuple[Forward, ...]
    rules: tuple[tuple[str, str], ...]
    """Name and right of each rule: one for each end that gets a token, with the one right that it needs."""

    @property
    def is_device_told(self) -> bool:
        """Whether the device is told where to listen; others know, and bring their own credential."""
        return self.klass.hybrid_connection_naming is Naming.TUNNEL

    @property
    def is_multiplexed(self) -> bool:
        """Whether forwarder and device are to share one socket; a device that is told nothing can not."""
        return self.klass.forwarder.multiplex and self.is_device_told

    def device_revision(self, expires_at: datetime) -> str:
        """Return a digest of all that the device is asked for; another one means: ask again."""
        where = [str(self.endpoint), self.hybrid_connection]
        if not self.is_device_told:
            # So it need not be asked again when ports or lifetime change.
            return names.digest(where)
        forwards = [(f.port_name, f.host, f.port, f.protocol) for f in self.forwards]
        wishes = [*where, forwards, expires_at.isoformat(), self.is_multiplexed]
        return names.digest(wishes)

    def port_name(self, port: Port) -> str:
        """Return under which name a port is asked for on the way to the device."""
        return self.klass.port_name or port.name


def agree(tunnel: Tunnel, klass: TunnelClass | None, *, default_image: str) -> Terms | Refusal:
    """Return the terms of a tunnel, or why there are none.

    `default_image` is the forwarder's where the class names none.
    """
    spec = tunnel.spec
    if klass is None:
        return no_class(tunnel)
    limits = klass.spec.limits
    ttl = limits.default_ttl if spec.ttl is None else spec.ttl
    if ttl > limits.max_ttl:
        return Refusal(
            Reason.TTL_TOO_LONG,
            f"spec.ttl is {format_duration(ttl)}; TunnelClass {klass.metadata.name!r} allows at most "
            f"{format_duration(limits.max_ttl)}.",
        )
    try:
        endpoint = RelayEndpoint.parse(klass.spec.relay.endpoint_or_default)
        ca_pem = klass.spec.relay.ca_pem()
    except (ProtocolError, ValueError) as error:
        return Refusal(Reason.INVALID_CLASS, f"TunnelClass {klass.metadata.name!r}: {error}")
    ingress = _ingress(tunnel, klass)
    if isinstance(ingress, Refusal):
        return ingress
    refusal = _unfit_for_class(tunnel, klass)
    if refusal is not None:
        return refusal
    return Terms(
        klass=klass.spec,
        class_name=klass.metadata.name,
        image=klass.spec.forwarder.image or default_image,
        endpoint=endpoint,
        ca_pem=ca_pem,
        hybrid_connection=names.hybrid_connection(tunnel, klass.spec.hybrid_connection_naming),
        ttl=ttl,
        idle_timeout=limits.idle_timeout if spec.idle_timeout is None else spec.idle_timeout,
        ingress=ingress,
        forwards=tuple(_forward(port, klass.spec.port_name) for port in spec.ports),
        rules=_rules(tunnel, klass.spec.hybrid_connection_naming),
    )


def no_class(tunnel: Tunnel) -> Refusal:
    """Say that the tunnel's class is not there."""
    name = class_name_of(tunnel, ())
    if name is None:
        return Refusal(
            Reason.CLASS_NOT_FOUND,
            "The Tunnel names no TunnelClass and there is no default one: set spec.tunnelClassName.",
        )
    return Refusal(Reason.CLASS_NOT_FOUND, f"There is no TunnelClass {name!r}.")


def _ingress(tunnel: Tunnel, klass: TunnelClass) -> IngressTerms | Refusal | None:
    wish: IngressExposure | None = tunnel.spec.expose.ingress
    if wish is None:
        return None
    domain = klass.spec.exposure.domain
    if wish.host is None and domain is None:
        return Refusal(
            Reason.NO_HOST,
            "spec.expose.ingress has no host, and the TunnelClass has no exposure.domain to make one under.",
        )
    meta = tunnel.metadata
    web = [port for port in tunnel.spec.ports if port.protocol is Protocol.HTTP]
    # The CRD's rules see to it that the port is there.
    port = next(p for p in web if wish.port_name in (None, p.name))
    return IngressTerms(
        host=wish.host or f"{meta.name}.{meta.namespace}.{domain}",
        port=port,
        tls_secret_name=wish.tls_secret_name,
    )


def _unfit_for_class(tunnel: Tunnel, klass: TunnelClass) -> Refusal | None:
    spec, device = klass.spec, tunnel.spec.device
    if spec.port_name is not None and len(tunnel.spec.ports) > 1:
        return Refusal(
            Reason.TOO_MANY_PORTS,
            f"Devices of TunnelClass {klass.metadata.name!r} serve one port; spec.ports has "
            f"{len(tunnel.spec.ports)}.",
        )
    is_named_after_device = spec.hybrid_connection_naming is Naming.DEVICE
    if is_named_after_device and not names.is_hybrid_connection(device.id):
        return Refusal(
            Reason.INVALID_DEVICE_NAME,
            f"No hybrid connection can be named {device.id!r}: letters, digits, '.', '-', '_' and '/' only.",
        )
    return None


def _rules(tunnel: Tunnel, naming: Naming) -> tuple[tuple[str, str], ...]:
    send = (names.send_rule(tunnel), "Send")
    return (send,) if naming is Naming.DEVICE else (send, (names.listen_rule(tunnel), "Listen"))


def _forward(port: Port, port_name: str | None) -> Forward:
    host, number = port.target_address()
    return Forward(port_name=port_name or port.name, host=host, port=number)
