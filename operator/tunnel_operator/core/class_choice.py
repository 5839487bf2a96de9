"""Which TunnelClass a Tunnel is of. One that names none takes the default class, and stays with it while open."""

from collections.abc import Iterable

from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClass


def class_name_of(tunnel: Tunnel, classes: Iterable[TunnelClass]) -> str | None:
    """Return the name of a tunnel's class, whether it is there or not; None without a name and a default.

    While something may be in Azure, it is there that the class says which the tunnel was opened with: another
    default class moves no tunnel that runs, and does not keep one that ends from being removed. With its next
    opening a tunnel takes the default class of then.
    """
    if tunnel.spec.tunnel_class_name is not None:
        return tunnel.spec.tunnel_class_name
    if tunnel.has_finalizer and tunnel.status.tunnel_class_name is not None:
        return tunnel.status.tunnel_class_name
    return default_class_name(classes)


def default_class_name(classes: Iterable[TunnelClass]) -> str | None:
    """Return the default class; of several the first by name."""
    return min((klass.metadata.name for klass in classes if klass.is_default), default=None)
