"""Which hybrid connections were left behind: made by us for a Tunnel that is no more, as in a lost cluster."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..api.keys import Key

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
