"""A hub made from its configuration, and how clients reach it."""

from datetime import datetime

from tunnel_forwarder.protocol.secret import Secret

from ..config import HubConfig, SimConfig, hub_fqdn
from ..endpoints import DeviceEndpoint, HubEndpoint
from ..errors import ConfigError
from ..state import KeyStore
from ..web import authority
from .certificates import read_authorities
from .limits import TIERS, Meter
from .model import BUILT_IN_POLICIES, Hub, Identity, Policy


def make_hub(config: SimConfig, hub: HubConfig, store: KeyStore, now: datetime) -> Hub:
    """Return a hub with its built-in policies and its devices, all with the keys of the last start."""
    policies = {
        name: Policy(name, permissions, store.get_or_create(f"hub/{hub.name}/policies/{name}"))
        for name, permissions in BUILT_IN_POLICIES.items()
    }
    identities = {
        device: Identity(device, store.get_or_create(f"hub/{hub.name}/devices/{device}"), now)
        for device in hub.devices
    }
    if hub.tier not in TIERS or hub.units < 1:
        raise ConfigError(f"A hub's tier is one of {', '.join(TIERS)}, with one unit or more.")
    meter = Meter(hub, config.clock)
    authorities = read_authorities(hub.authorities)
    names = config.hub_names(hub.name)
    return Hub(hub.name, names, policies, meter, identities, authorities)


def reset_hub(config: SimConfig, hub: Hub, store: KeyStore, now: datetime) -> None:
    """Bring a hub back to its configuration's devices; all connections end."""
    entry = next(one for one in config.hubs if one.name == hub.name)
    fresh = make_hub(config, entry, store, now)
    for device in hub.devices():
        hub.remove(device.id)
    hub.identities.update(fresh.identities)
    hub.meter = fresh.meter


def hub_endpoint(config: SimConfig, hub: Hub, devices: tuple[str, ...], port: int) -> HubEndpoint:
    """Return how services and devices reach a hub whose REST API listens on `port`."""
    return HubEndpoint(
        name=hub.name,
        host_name=authority(config.address, port),
        connection_string=policy_connection_string(config, hub, "service", port),
        devices=tuple(
            DeviceEndpoint(device, device_connection_string(config, hub, device))
            for device in devices
        ),
    )


def policy_connection_string(config: SimConfig, hub: Hub, policy: str, port: int) -> Secret:
    """Return the connection string of one of the hub's policies."""
    key = hub.policies[policy].keys.primary.reveal()
    host = authority(config.address, port)
    return Secret(f"HostName={host};SharedAccessKeyName={policy};SharedAccessKey={key}")


def device_connection_string(config: SimConfig, hub: Hub, identity: str) -> Secret:
    """Return the connection string of a device or module.

    GatewayHostName moves where azure-iot-device connects to, and nothing else: user name and token keep
    the hub's own name.
    """
    device, _, module = identity.partition("/")
    key = hub.existing(identity).keys.primary.reveal()
    parts = [f"HostName={hub_fqdn(hub.name)}", f"DeviceId={device}"]
    if module:
        parts.append(f"ModuleId={module}")
    return Secret(";".join([*parts, f"SharedAccessKey={key}", f"GatewayHostName={config.address}"]))
