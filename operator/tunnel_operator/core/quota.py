"""How many tunnels of a class a namespace may have open, and whose turn it is: that of the oldest Tunnel."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from ..api.reasons import ConditionType, Reason
from ..api.tunnel import Tunnel


class Claim(Enum):
    """What a Tunnel has or wants of the places that a class gives a namespace."""

    HOLDS = "holds"
    """It is open, or something of it is still there."""

    WANTS = "wants"
    """It is to be opened."""

    NONE = "none"
    """It has ended, is suspended or deleted, or is not carried out for a reason of its own."""


@dataclass(frozen=True, slots=True)
class Place:
    """One Tunnel's claim, and its turn among those that want a place."""

    claim: Claim
    turn: tuple[datetime, str]


def place_of(tunnel: Tunnel) -> Place:
    """Return a Tunnel's claim, by what is on record of it."""
    meta = tunnel.metadata
    created_at = meta.creation_timestamp or datetime.min.replace(tzinfo=UTC)
    return Place(_claim(tunnel), (created_at, meta.uid))


def is_waiting(tunnel: Tunnel) -> bool:
    """Tell whether a Tunnel says that it waits for a place."""
    accepted = tunnel.status.condition(ConditionType.ACCEPTED)
    return accepted is not None and accepted.reason == Reason.TOO_MANY_TUNNELS


def has_place(own: Place, others: Iterable[Place], most: int | None) -> bool:
    """Tell whether a Tunnel may be open beside the others of its class and namespace.

    Who is in stays in, when `most` becomes less, too. Of those that want in, the oldest come first, so that
    any two of them come to the same answer without asking each other.
    """
    if most is None or own.claim is Claim.HOLDS:
        return True
    before = sum(
        place.claim is Claim.HOLDS or (place.claim is Claim.WANTS and place.turn < own.turn)
        for place in others
    )
    return before < most


def _claim(tunnel: Tunnel) -> Claim:
    status = tunnel.status
    accepted = status.condition(ConditionType.ACCEPTED)
    is_accepted = accepted is not None and accepted.status == "True"
    # The status is written before the finalizer.
    if tunnel.has_finalizer or (status.opened_at and status.session is None and is_accepted):
        return Claim.HOLDS
    generation = tunnel.metadata.generation
    has_ended = status.session is not None and status.session.generation >= generation
    if tunnel.is_deleting or tunnel.spec.suspend or has_ended:
        return Claim.NONE
    is_refused = accepted is not None and accepted.status == "False" and not is_waiting(tunnel)
    return Claim.NONE if is_refused else Claim.WANTS
