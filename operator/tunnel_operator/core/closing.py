"""How a tunnel is taken down: the device is told, and everything that was made is removed."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from ..api.reasons import Reason
from ..api.tunnel import Tunnel
from ..api.tunnel_class import DeletionPolicy
from . import names
from .actions import (
    Branch,
    CloseDevice,
    DeleteHybridConnection,
    DeleteObject,
    DeleteRules,
    RemoveFinalizer,
    RetainHybridConnection,
)
from .observed import HybridConnection, NoHybridConnection, Observed, Step
from .ownership import Ownership, own_rules, ownership

GIVE_UP_AFTER = timedelta(minutes=10)
"""How long after the tokens' end a deletion still waits for Azure. They open nothing by then."""

CLOSE_ATTEMPTS = 3
"""How often a device is asked to close. Deleting the hybrid connection cuts it off in any case."""


def close(tunnel: Tunnel, observed: Observed, now: datetime) -> tuple[Branch, ...]:
    """Return what is left to take down. The finalizer goes last, and what is left over does not hold it."""
    if is_closed(tunnel, observed) or has_given_up(tunnel, observed, now):
        return ((RemoveFinalizer(),),) if tunnel.has_finalizer else ()
    branches = [tuple(_remote(tunnel, observed, now)), tuple(_children(observed))]
    return tuple(branch for branch in branches if branch)


def is_closed(tunnel: Tunnel, observed: Observed) -> bool:
    """Tell whether nothing is left in Azure that lets anybody in, and all objects of the cluster are on their way out."""
    return not is_in_azure(tunnel, observed) and all(
        child.is_deleting for child in observed.children.values()
    )


def is_in_azure(tunnel: Tunnel, observed: Observed) -> bool:
    """Tell whether something of this tunnel is, or may be, in Azure."""
    remote = observed.hybrid_connection
    if not isinstance(remote, HybridConnection):
        return remote is NoHybridConnection.UNKNOWN
    match ownership(tunnel, remote):
        case Ownership.OWN:
            return not remote.is_retained or bool(own_rules(tunnel, remote))
        case Ownership.BORROWED:
            return bool(own_rules(tunnel, remote))
        case Ownership.RETAINED | Ownership.FOREIGN:
            return False


def has_given_up(tunnel: Tunnel, observed: Observed, now: datetime) -> bool:
    """Tell whether Azure is waited for no longer, and what may be there is left to the sweeper.

    Only a deletion is in a hurry. Of a tunnel that ended and stays, Azure is asked as long as somebody may
    mend it, which nobody does for a class that was deleted.
    """
    began = tunnel.metadata.deletion_timestamp
    if began is None and observed.is_class_gone and tunnel.status.session is not None:
        began = tunnel.status.session.ended_at
    if began is None:
        return False
    return now >= max(began, tunnel.status.expires_at or began) + GIVE_UP_AFTER


def _remote(
    tunnel: Tunnel, observed: Observed, now: datetime
) -> Iterator[CloseDevice | DeleteHybridConnection | RetainHybridConnection | DeleteRules]:
    remote = observed.hybrid_connection
    if not isinstance(remote, HybridConnection) or not is_in_azure(tunnel, observed):
        return
    if remote.listener_count > 0 or observed.answer is not None:
        failure = observed.failures.get(Step.CLOSE_DEVICE)
        if failure is None or _is_worth_another_try(failure.reason, failure.attempts):
            if observed.is_waiting(Step.CLOSE_DEVICE, now):
                return
            yield CloseDevice(tunnel.spec.device)
    if observed.is_waiting(Step.HYBRID_CONNECTION, now):
        return
    if ownership(tunnel, remote) is Ownership.BORROWED:
        yield DeleteRules(remote.name, tuple(sorted(own_rules(tunnel, remote))))
    elif observed.policy is DeletionPolicy.RETAIN:
        yield RetainHybridConnection(
            name=remote.name,
            owner=tunnel.metadata.uid,
            tunnel=str(tunnel),
            correlation_id=names.correlation_id(tunnel),
            rules=(names.send_rule(tunnel), names.listen_rule(tunnel)),
        )
    else:
        yield DeleteHybridConnection(remote.name)


def _is_worth_another_try(reason: Reason, attempts: int) -> bool:
    # It is its own budget that an operator waits for under the name of Opening: nothing was tried yet.
    reasons = (Reason.THROTTLED, Reason.UNAVAILABLE, Reason.OPENING)
    return reason in reasons and attempts < CLOSE_ATTEMPTS


def _children(observed: Observed) -> Iterator[DeleteObject]:
    for kind, child in observed.children.items():
        if not child.is_deleting:
            yield DeleteObject(kind, str(child.body["metadata"]["name"]), child.uid)
