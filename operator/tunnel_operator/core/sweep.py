"""Which hybrid connections were left behind: made by us for a Tunnel that is no more, or that has another one.

The first is so in a lost cluster. The second comes about when an operator dies before the name is on record, and
the class is made anew meanwhile: what is made then has another name, or is in another place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..api.keys import Key
from ..api.tunnel import Tunnel
from ..api.tunnel_class import Relay, TunnelClassSpec

GRACE = timedelta(hours=1)
"""How old a hybrid connection is before it may count as left behind."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A hybrid connection with an ownership mark: for which Tunnel, and in which cluster, it was made."""

    name: str
    tunnel: Key
    uid: str
    cluster: str
    created_at: datetime
    is_retained: bool = False


def candidates(found: Iterable[Marked], cluster: str, now: datetime) -> Iterator[Marked]:
    """Yield what is old enough, of this cluster, and not kept on purpose. Without a cluster id nothing is."""
    return (
        marked
        for marked in found
        if cluster and marked.cluster == cluster and not marked.is_retained
        if now >= marked.created_at + GRACE
    )


def place_of(relay: Relay) -> tuple[str, ...]:
    """Return what tells one Relay namespace from another. Azure takes its names in any case of letters."""
    names = (relay.subscription_id, relay.resource_group, relay.namespace)
    return tuple(name.lower() for name in names)


def is_in_use(
    marked: Marked, relay: Relay, tunnel: Tunnel | None, klass: TunnelClassSpec | None
) -> bool:
    """Tell whether a hybrid connection of this Relay namespace may be what its Tunnel, of that class, has now.

    Without the finalizer a Tunnel has nothing in Azure. What it has keeps its name to its end, so that one on
    record is the only one; without a record, or a class that is known, nobody can tell.
    """
    if tunnel is None or tunnel.metadata.uid != marked.uid or not tunnel.has_finalizer:
        return False
    if klass is not None and place_of(klass.relay) != place_of(relay):
        return False
    made = tunnel.status.hybrid_connection
    return made is None or made.name == marked.name
