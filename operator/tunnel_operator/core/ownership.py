"""Whose a hybrid connection is. What is not the operator's own is never deleted."""

from enum import Enum

from ..api.tunnel import Tunnel
from . import names
from .observed import HybridConnection


class Ownership(Enum):
    """What a hybrid connection is to a Tunnel."""

    OWN = "own"
    """Made for this Tunnel, and removed with it."""

    BORROWED = "borrowed"
    """There before, without a mark: only the Tunnel's rules on it are made and removed."""

    RETAINED = "retained"
    """Kept of an earlier Tunnel of the same name, without rules: it may be taken over."""

    FOREIGN = "foreign"
    """Made, or kept, for another Tunnel."""


def ownership(tunnel: Tunnel, remote: HybridConnection) -> Ownership:
    """Return whose a hybrid connection is.

    One that bears the Tunnel's own name, which nothing else has, stays its own when the mark is lost.
    """
    if remote.owner == tunnel.metadata.uid:
        return Ownership.OWN
    if remote.owner is not None:
        is_kept = remote.is_retained and remote.owner_name == str(tunnel)
        return Ownership.RETAINED if is_kept else Ownership.FOREIGN
    is_named_after_device = remote.name == tunnel.spec.device.id
    return Ownership.BORROWED if is_named_after_device else Ownership.OWN


def own_rules(tunnel: Tunnel, remote: HybridConnection) -> frozenset[str]:
    """Return those of the tunnel's rules that are there."""
    return frozenset(remote.rules or ()) & {names.send_rule(tunnel), names.listen_rule(tunnel)}
