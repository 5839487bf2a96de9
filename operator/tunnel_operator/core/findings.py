"""What to say of each hop. Messages hold no counters and no clock: the same state, the same text."""

from datetime import datetime

from ..api.base import format_time
from ..api.conditions import Finding, Truth
from ..api.reasons import ConditionType, Reason
from ..api.tunnel import Tunnel
from .class_choice import class_name_of
from .exposure import find_exposed
from .observed import Failure, HybridConnection, Kind, NoHybridConnection, Observed, Step
from .opening import Opening
from .ownership import Ownership, ownership
from .pods import due_to_be_gone, is_ready, trouble
from .refusal import Refusal
from .terms import Terms


def find_hops(opening: Opening) -> tuple[Finding, ...]:
    """Return a finding for each hop of an opening or open tunnel, in the order of the way."""
    tunnel, terms, observed = opening.tunnel, opening.terms, opening.observed
    return (
        _accepted(terms, observed),
        _hybrid_connection(tunnel, terms, observed),
        _device(opening),
        _forwarder(observed, opening.now),
        find_exposed(tunnel, terms, observed, opening.children.unapplied),
    )


def too_many(terms: Terms, namespace: str) -> tuple[Finding, ...]:
    """Return the findings for a tunnel that waits until another one of its namespace is closed."""
    message = (
        f"Namespace '{namespace}' has as many open tunnels of TunnelClass '{terms.class_name}' as "
        f"limits.maxTunnelsPerNamespace allows: {terms.klass.limits.max_tunnels_per_namespace}. This one is "
        "opened when one of them is closed, the oldest that waits first."
    )
    reason = Reason.TOO_MANY_TUNNELS
    return (
        Finding(type=ConditionType.ACCEPTED, status="False", reason=reason, message=message),
        ready("False", reason, message),
        reconciling(reason, message),
    )


def class_deleted(name: str) -> Finding:
    """Say that a tunnel runs on though its class was deleted."""
    message = (
        f"TunnelClass {name!r} was deleted. The tunnel stays open until its end, and can not be made "
        "longer or opened again until there is such a class."
    )
    return Finding(
        type=ConditionType.ACCEPTED, status="True", reason=Reason.CLASS_DELETED, message=message
    )


def running_without_class(tunnel: Tunnel) -> tuple[Finding, ...]:
    """Return the findings for a tunnel whose class is gone and not remembered, and whose way is proven.

    The forwarder is ready only while it meets the device, so that the hops up to it are there.
    """
    status = tunnel.status
    exposed = status.condition(ConditionType.EXPOSED)
    name = status.hybrid_connection.name if status.hybrid_connection else ""
    end = "" if status.expires_at is None else f"Open until {format_time(status.expires_at)}."
    found = [
        class_deleted(class_name_of(tunnel, ()) or ""),
        _there(name),
        _listening(tunnel),
        _RUNNING,
    ]
    if exposed is not None and exposed.status == "True":
        found.append(_EXPOSED)
    return (*found, ready("True", Reason.OPEN, end))


def broken_without_class(refusal: Refusal) -> Refusal:
    """Say that a tunnel does not work and is not mended."""
    message = f"{refusal.message} The tunnel does not work just now, and is not mended without."
    return Refusal(refusal.reason, message)


def refused(refusal: Refusal) -> tuple[Finding, ...]:
    """Return the findings for a tunnel that is not carried out until a person mends it."""
    return (
        Finding(
            type=ConditionType.ACCEPTED,
            status="False",
            reason=refusal.reason,
            message=refusal.message,
        ),
        ready("False", refusal.reason, refusal.message),
        Finding(
            type=ConditionType.STALLED,
            status="True",
            reason=refusal.reason,
            message=refusal.message,
        ),
    )


def summarize(
    hops: tuple[Finding, ...], observed: Observed, expires_at: datetime
) -> tuple[Finding, ...]:
    """Return the hops with their sum, and whether it is being worked on or waits for a person."""
    missing = next((hop for hop in hops if hop.status != "True"), None)
    if missing is None:
        return (*hops, ready("True", Reason.OPEN, f"Open until {format_time(expires_at)}."))
    stuck = next((f for f in observed.failures.values() if f.is_terminal), None)
    if stuck is not None:
        return (*hops, ready("False", stuck.reason, stuck.message), _stalled(stuck))
    if missing.reason is Reason.NAME_TAKEN:
        return (*hops, ready("False", missing.reason, missing.message), _stalled(missing))
    summary = ready("False", missing.reason, missing.message)
    return (*hops, summary, reconciling(missing.reason, missing.message))


def ready(status: Truth, reason: Reason, message: str) -> Finding:
    """Return the sum of all hops."""
    return Finding(type=ConditionType.READY, status=status, reason=reason, message=message)


def reconciling(reason: Reason, message: str) -> Finding:
    """Say that the operator is at work; left out when it is not."""
    return Finding(type=ConditionType.RECONCILING, status="True", reason=reason, message=message)


_RUNNING = Finding(
    type=ConditionType.FORWARDER_READY,
    status="True",
    reason=Reason.RUNNING,
    message="The forwarder has met the device's listener.",
)
_EXPOSED = Finding(type=ConditionType.EXPOSED, status="True", reason=Reason.EXPOSED)


def _there(name: str) -> Finding:
    return Finding(
        type=ConditionType.HYBRID_CONNECTION_READY,
        status="True",
        reason=Reason.CREATED,
        message=f"Hybrid connection {name!r} is there.",
    )


def _listening(tunnel: Tunnel) -> Finding:
    return Finding(
        type=ConditionType.DEVICE_LISTENING,
        status="True",
        reason=Reason.LISTENING,
        message=f"Device {str(tunnel.spec.device)!r} listens.",
    )


def _accepted(terms: Terms, observed: Observed) -> Finding:
    if observed.is_class_gone:
        return class_deleted(terms.class_name)
    return Finding(type=ConditionType.ACCEPTED, status="True", reason=Reason.ACCEPTED)


def _failure(observed: Observed, *steps: Step) -> Failure | None:
    return next((observed.failures[step] for step in steps if step in observed.failures), None)


def _stalled(cause: Failure | Finding) -> Finding:
    return Finding(
        type=ConditionType.STALLED, status="True", reason=cause.reason, message=cause.message
    )


def _hybrid_connection(tunnel: Tunnel, terms: Terms, observed: Observed) -> Finding:
    kind = ConditionType.HYBRID_CONNECTION_READY
    remote, failure = (
        observed.hybrid_connection,
        _failure(observed, Step.HYBRID_CONNECTION, Step.LOOK),
    )
    there = _there(terms.hybrid_connection)
    if isinstance(remote, HybridConnection) and ownership(tunnel, remote) is Ownership.FOREIGN:
        message = (
            f"Hybrid connection {remote.name!r} is kept for Tunnel {remote.owner_name}. Delete it in Azure "
            "if nobody needs it."
            if remote.is_retained
            else f"Hybrid connection {remote.name!r} is in use by Tunnel {remote.owner_name}."
        )
        return Finding(type=kind, status="False", reason=Reason.NAME_TAKEN, message=message)
    before = tunnel.status.condition(kind)
    if remote is NoHybridConnection.UNKNOWN and before is not None and before.status == "True":
        # Azure can not be asked just now, which says nothing against a tunnel that runs.
        return there
    if failure is not None:
        return Finding(type=kind, status="False", reason=failure.reason, message=failure.message)
    if isinstance(remote, HybridConnection):
        return there
    return Finding(
        type=kind, status="False", reason=Reason.OPENING, message="Making the hybrid connection."
    )


def _device(opening: Opening) -> Finding:
    kind, tunnel = ConditionType.DEVICE_LISTENING, opening.tunnel
    failure = opening.observed.failures.get(Step.DEVICE)
    if failure is not None:
        return Finding(type=kind, status="False", reason=failure.reason, message=failure.message)
    if opening.is_device_listening:
        return _listening(tunnel)
    message = f"Asking device {str(tunnel.spec.device)!r} to listen."
    return Finding(type=kind, status="False", reason=Reason.OPENING, message=message)


def _forwarder(observed: Observed, now: datetime) -> Finding:
    kind, pod = ConditionType.FORWARDER_READY, observed.children.get(Kind.POD)
    failure = observed.failures.get(Step.CHILDREN)
    if is_ready(pod):
        return _RUNNING
    if failure is not None:
        return Finding(type=kind, status="False", reason=failure.reason, message=failure.message)
    due = None if pod is None else due_to_be_gone(pod)
    if due is not None and now >= due:
        message = "The node of the last forwarder has not confirmed that its Pod has ended."
        return Finding(type=kind, status="False", reason=Reason.STARTING, message=message)
    reason, message = (trouble(pod) if pod else None) or (
        Reason.STARTING,
        "Waiting for the forwarder to meet the device's listener.",
    )
    return Finding(type=kind, status="False", reason=reason, message=message)
