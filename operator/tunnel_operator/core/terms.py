"""What a Tunnel and its TunnelClass come to together, or why they do not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_network

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.method import Forward
from tunnel_forwarder.protocol.urls import RelayEndpoint

from ..api.base import format_duration
from ..api.reasons import Reason
from ..api.tunnel import (
    GatewayExposure,
    HostRouteExposure,
    IngressExposure,
    Port,
    Protocol,
    RouteExposure,
    Tunnel,
)
from ..api.tunnel_class import Gateway, Naming, TunnelClass, TunnelClassSpec
from . import names
from .access import denial, exposure_denial
from .class_choice import class_name_of
from .observed import Kind
from .refusal import Refusal


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
class RouteTerms:
    """A port that is put behind the class's Gateway; `host` is None for a route without host names."""

    kind: Kind
    port: Port
    gateway: Gateway
    section_name: str | None
    host: str | None = None

    @property
    def url(self) -> str:
        """Where a browser goes."""
        return f"{self.gateway.scheme}://{self.host}"


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
    routes: tuple[RouteTerms, ...]
    forwards: tuple[Forward, ...]
    rules: tuple[tuple[str, str], ...]
    """Name and right of each rule: one for each end that gets a token, with the one right that it needs."""

    @property
    def url(self) -> str | None:
        """Where a browser goes, if there is a way for one."""
        if self.ingress is not None:
            return self.ingress.url
        return next((route.url for route in self.routes_of(Kind.HTTP_ROUTE)), None)

    def host_of(self, port: Port) -> str | None:
        """Return the host name by which a port is reached that is no page."""
        return next((r.host for r in self.routes_of(Kind.TLS_ROUTE) if r.port == port), None)

    def routes_of(self, kind: Kind) -> tuple[RouteTerms, ...]:
        """Return the routes of a kind, of which there is one at most."""
        return tuple(route for route in self.routes if route.kind is kind)

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


def agree(
    tunnel: Tunnel,
    klass: TunnelClass | None,
    *,
    default_image: str,
    namespace_labels: Mapping[str, str] | None = None,
) -> Terms | Refusal:
    """Return the terms of a tunnel, or why there are none.

    `default_image` is the forwarder's where the class names none; `namespace_labels` are those of the
    tunnel's namespace, if known.
    """
    spec = tunnel.spec
    if klass is None:
        return no_class(tunnel)
    limits = klass.spec.limits
    ttl = limits.default_ttl if spec.ttl is None else spec.ttl
    refused = (
        _bad_client(tunnel)
        or _too_long(klass, ttl)
        or denial(tunnel, klass, namespace_labels, ttl)
        or exposure_denial(tunnel, klass)
    )
    if refused is not None:
        return refused
    try:
        endpoint = RelayEndpoint.parse(klass.spec.relay.endpoint_or_default)
        ca_pem = klass.spec.relay.ca_pem()
    except (ProtocolError, ValueError) as error:
        return Refusal(Reason.INVALID_CLASS, f"TunnelClass {klass.metadata.name!r}: {error}")
    ways = _ways(tunnel, klass)
    if isinstance(ways, Refusal):
        return ways
    refusal = _unfit_for_class(tunnel, klass)
    if refusal is not None:
        return refusal
    ingress, routes = ways
    return Terms(
        klass=klass.spec,
        class_name=klass.metadata.name,
        image=klass.spec.forwarder.image or default_image,
        endpoint=endpoint,
        ca_pem=ca_pem,
        hybrid_connection=names.hybrid_connection(tunnel, klass.spec),
        ttl=ttl,
        idle_timeout=limits.idle_timeout if spec.idle_timeout is None else spec.idle_timeout,
        ingress=ingress,
        routes=routes,
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


def _ways(
    tunnel: Tunnel, klass: TunnelClass
) -> tuple[IngressTerms | None, tuple[RouteTerms, ...]] | Refusal:
    """Return the ways from outside that are wished for."""
    ingress, routes = _ingress(tunnel, klass), _routes(tunnel, klass)
    if isinstance(ingress, Refusal):
        return ingress
    return routes if isinstance(routes, Refusal) else (ingress, routes)


def _bad_client(tunnel: Tunnel) -> Refusal | None:
    """Refuse what no NetworkPolicy can be made of, before anything is opened that it should guard."""
    for client in tunnel.spec.allowed_clients or ():
        try:
            if client.cidr is not None:
                ip_network(client.cidr, strict=False)
        except ValueError:
            text = (
                f"spec.allowedClients has the cidr '{client.cidr}', which is no range of addresses."
            )
            return Refusal(Reason.REJECTED, text)
    return None


def _too_long(klass: TunnelClass, ttl: timedelta) -> Refusal | None:
    longest = klass.spec.limits.max_ttl
    if ttl <= longest:
        return None
    return Refusal(
        Reason.TTL_TOO_LONG,
        f"The Tunnel's ttl is {format_duration(ttl)}; TunnelClass '{klass.metadata.name}' allows at most "
        f"{format_duration(longest)}.",
    )


def _ingress(tunnel: Tunnel, klass: TunnelClass) -> IngressTerms | Refusal | None:
    wish: IngressExposure | None = tunnel.spec.expose.ingress
    if wish is None:
        return None
    host = _host(tunnel, klass, wish, "ingress")
    if isinstance(host, Refusal):
        return host
    web = [port for port in tunnel.spec.ports if port.protocol is Protocol.HTTP]
    # The CRD's rules see to it that the port is there.
    port = next(p for p in web if wish.port_name in (None, p.name))
    return IngressTerms(host=host, port=port, tls_secret_name=wish.tls_secret_name)


def _host(
    tunnel: Tunnel, klass: TunnelClass, wish: IngressExposure | HostRouteExposure, field: str
) -> str | Refusal:
    """Return the host name that is wished for, or one under the class's domain."""
    meta, domain = tunnel.metadata, klass.spec.exposure.domain
    if wish.host is not None:
        return wish.host
    if domain is None:
        return Refusal(
            Reason.NO_HOST,
            f"spec.expose.{field} has no host, and the TunnelClass has no exposure.domain to make one under.",
        )
    return f"{meta.name}.{meta.namespace}.{domain}"


def _routes(tunnel: Tunnel, klass: TunnelClass) -> tuple[RouteTerms, ...] | Refusal:
    wish: GatewayExposure | None = tunnel.spec.expose.gateway
    if wish is None:
        return ()
    gateway = klass.spec.exposure.gateway
    if gateway is None:
        return Refusal(
            Reason.NO_GATEWAY,
            f"spec.expose.gateway asks for routes, and TunnelClass {klass.metadata.name!r} names no "
            "Gateway in exposure.gateway.",
        )
    routes = []
    for field, kind, route, protocol in (
        ("http", Kind.HTTP_ROUTE, wish.http, Protocol.HTTP),
        ("tls", Kind.TLS_ROUTE, wish.tls, Protocol.HTTPS),
        ("tcp", Kind.TCP_ROUTE, wish.tcp, Protocol.TCP),
    ):
        if route is None:
            continue
        host = (
            _host(tunnel, klass, route, f"gateway.{field}")
            if isinstance(route, HostRouteExposure)
            else None
        )
        if isinstance(host, Refusal):
            return host
        section = route.section_name or gateway.section_name
        routes.append(RouteTerms(kind, _port(tunnel, route, protocol), gateway, section, host))
    return tuple(routes)


def _port(tunnel: Tunnel, route: RouteExposure, protocol: Protocol) -> Port:
    """Return the port of a route. The CRD's rules see to it that it is there."""
    ports = tunnel.spec.ports
    if route.port_name is not None:
        return next(port for port in ports if port.name == route.port_name)
    return next(port for port in ports if port.protocol is protocol)


def _unfit_for_class(tunnel: Tunnel, klass: TunnelClass) -> Refusal | None:
    spec, device = klass.spec, tunnel.spec.device
    if spec.port_name is not None and len(tunnel.spec.ports) > 1:
        return Refusal(
            Reason.TOO_MANY_PORTS,
            f"Devices of TunnelClass '{klass.metadata.name}' serve one port; spec.ports has "
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
