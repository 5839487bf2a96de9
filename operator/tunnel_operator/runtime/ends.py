"""What the two ends of a tunnel are given: a token for one right each, and the device's orders."""

from datetime import datetime

from tunnel_forwarder.protocol import mux, sas
from tunnel_forwarder.protocol.method import CloseRequest, OpenRequest
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import RelayEndpoint

from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass
from ..core import names
from ..core.actions import OpenDevice
from .ports import Relay


async def token(
    relay: Relay, klass: TunnelClass, name: str, rule: str, expires_at: datetime
) -> Secret:
    """Return a token for one right on one hybrid connection, which ends with the tunnel.

    Raises TunnelError when the rule's key can not be had.
    """
    key = await relay.key(klass.spec, name, rule)
    host = RelayEndpoint.parse(klass.spec.relay.endpoint_or_default).host
    return sas.sign(
        sas.relay_audience(host, name),
        key=sas.relay_key(key.reveal()),
        rule=rule,
        expires_at=int(expires_at.timestamp()),
    )


async def open_request(
    relay: Relay, tunnel: Tunnel, klass: TunnelClass, action: OpenDevice
) -> OpenRequest:
    """Return what a device is told that is to listen, its token included. Raises TunnelError as `token` does."""
    return OpenRequest(
        tunnel=str(tunnel),
        uid=tunnel.metadata.uid,
        correlation_id=names.correlation_id(tunnel),
        endpoint=RelayEndpoint.parse(klass.spec.relay.endpoint_or_default),
        hybrid_connection=action.hybrid_connection,
        listen_token=await token(
            relay, klass, action.hybrid_connection, names.listen_rule(tunnel), action.expires_at
        ),
        forwards=action.forwards,
        expires_at=action.expires_at,
        features=(mux.FEATURE,) if action.is_multiplexed else (),
    )


def close_request(tunnel: Tunnel) -> CloseRequest:
    """Return what a device is told that is to listen no longer."""
    return CloseRequest(
        tunnel=str(tunnel),
        uid=tunnel.metadata.uid,
        correlation_id=names.correlation_id(tunnel),
    )
