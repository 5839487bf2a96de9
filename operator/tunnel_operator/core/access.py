"""Who may open a tunnel to what, and how it may be reached. manifests/base/access.yaml says the same in CEL.

A test runs both over the same cases, and looks for the same sentences.
"""

from collections.abc import Mapping
from datetime import timedelta

from ..api.base import format_duration
from ..api.reasons import Reason
from ..api.tunnel import Requirement, Selector, Tunnel
from ..api.tunnel_class import AccessRule, TunnelClass
from .refusal import Refusal

Labels = Mapping[str, str]

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that every namespace has, with its name; nobody can change it."""


def denial(
    tunnel: Tunnel, klass: TunnelClass, labels: Labels | None, ttl: timedelta
) -> Refusal | None:
    """Return what the class's rules have against a tunnel; None when one of them allows all of it.

    `labels` are those of the tunnel's namespace; None when they are not known, which no selector matches.
    """
    if klass.spec.access is None:
        return None
    who = f"TunnelClass '{klass.metadata.name}'"
    whence = f"from namespace '{tunnel.metadata.namespace}'"
    device, ports = tunnel.spec.device.id, [port.target_address()[1] for port in tunnel.spec.ports]
    of_namespace = [r for r in klass.spec.access if selects(r.namespaces, labels)]
    if not of_namespace:
        name = tunnel.metadata.namespace
        text = f"{who} has no rule in spec.access for namespace '{name}'."
        return Refusal(Reason.NOT_ALLOWED, text)
    of_device = [r for r in of_namespace if _matches_device(r, device)]
    if not of_device:
        allowed = ", ".join(glob for rule in of_namespace for glob in rule.devices or ())
        text = f"{who} does not allow device '{device}' {whence}. Allowed are: {allowed}."
        return Refusal(Reason.NOT_ALLOWED, text)
    of_ports = [r for r in of_device if r.ports is None or set(ports) <= set(r.ports)]
    if not of_ports:
        wish = ", ".join(map(str, ports))
        allowed = "; or ".join(", ".join(map(str, rule.ports or ())) for rule in of_device)
        text = (
            f"{who} does not allow target ports {wish} of device '{device}' {whence}. "
            f"Allowed are: {allowed}."
        )
        return Refusal(Reason.NOT_ALLOWED, text)
    if any(rule.max_ttl is None or ttl <= rule.max_ttl for rule in of_ports):
        return None
    longest = ", ".join(format_duration(rule.max_ttl) for rule in of_ports if rule.max_ttl)
    text = (
        f"{who} allows device '{device}' {whence} for at most {longest}; the Tunnel's ttl is "
        f"{format_duration(ttl)}."
    )
    return Refusal(Reason.TTL_TOO_LONG, text)


def exposure_denial(tunnel: Tunnel, klass: TunnelClass) -> Refusal | None:
    """Return what the class has against the ways from outside that a tunnel asks for, if anything."""
    who, exposure = f"TunnelClass '{klass.metadata.name}'", klass.spec.exposure
    service, domains = tunnel.spec.expose.service, exposure.domains
    if service.type not in exposure.service_types:
        allowed = ", ".join(exposure.service_types)
        text = f"{who} does not allow a Service of type {service.type}. Allowed are: {allowed}."
        return Refusal(Reason.NOT_ALLOWED, text)
    globs = exposure.allowed_service_annotations
    if not all(any(matches(glob, key) for glob in globs) for key in service.annotations):
        text = (
            f"{who} does not allow these annotations of the Service. "
            f"Allowed are: {', '.join(globs) or 'none'}."
        )
        return Refusal(Reason.NOT_ALLOWED, text)
    for host in tunnel.spec.expose.hosts if domains is not None else ():
        if not any(host == domain or host.endswith(f".{domain}") for domain in domains or ()):
            allowed = ", ".join(domains or ()) or "none"
            text = f"{who} does not allow host '{host}'. Allowed are names in: {allowed}."
            return Refusal(Reason.NOT_ALLOWED, text)
    return None


def selects(selector: Selector | None, labels: Labels | None) -> bool:
    """Tell whether a label selector selects what has these labels; unknown ones are selected by none."""
    if selector is None:
        return True
    wanted, requirements = selector.match_labels or {}, selector.match_expressions or ()
    if labels is None:
        return not wanted and not requirements
    has_labels = all(labels.get(key) == value for key, value in wanted.items())
    return has_labels and all(_meets(requirement, labels) for requirement in requirements)


def matches(glob: str, name: str) -> bool:
    """Tell whether a name is one of a pattern, in which a star stands for any characters, or none."""
    first, *rest = glob.split("*")
    if not rest:
        return glob == name
    *middle, last = rest
    if not name.startswith(first):
        return False
    position = len(first)
    for part in middle:
        # The first place is as good as any later one: what follows has the more room.
        found = name.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return len(name) - len(last) >= position and name.endswith(last)


def _matches_device(rule: AccessRule, device: str) -> bool:
    return rule.devices is None or any(matches(glob, device) for glob in rule.devices)


def _meets(requirement: Requirement, labels: Labels) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in (requirement.values or ())
        case "NotIn":
            return value is None or value not in (requirement.values or ())
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
