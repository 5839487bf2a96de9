"""The decision: from a Tunnel, its class, what is seen and the time, to what to do next.

`plan` is pure and level-triggered: it looks at the whole state each time, and never at what happened. The
same state gives the same plan, and a state in which all is as wanted gives a plan without actions.

    opening or open  ──> finalizer, then hybrid connection, then device and children side by side
    ended            ──> close: device, hybrid connection and children; then remove the finalizer
    deleted          ──> the same
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from ..api.conditions import Finding, merge
from ..api.reasons import Reason
from ..api.tunnel import Endpoint, HybridConnectionStatus, SessionStatus, Tunnel, TunnelStatus
from ..api.tunnel_class import TunnelClass
from . import findings, names
from .actions import Plan
from .children import replacement_times
from .closing import close, has_given_up, is_closed, is_in_azure
from .looks import JUST_NOW, LISTENER_LAG, POLL, good_for, is_lasting
from .notices import expiry, expiry_notice_at, left_behind, left_behind_text, transitions
from .observed import HybridConnection, Kind, NoHybridConnection, Observed, Step
from .opening import Opening
from .pods import is_ready
from .refusal import Refusal
from .session import Session, ended_session, recorded_session, session_of, with_totals
from .terms import Terms, agree, no_class


def plan(
    tunnel: Tunnel,
    klass: TunnelClass | None,
    observed: Observed,
    now: datetime,
    *,
    default_image: str,
) -> Plan:
    """Return what to do next. Never raises for any state that the API server allows."""
    if tunnel.is_deleting:
        decided = _plan_deletion(tunnel, observed, now)
    elif (over := ended_session(tunnel, observed)) is not None and over.ended is not None:
        # It stays as it ended, whatever has become of its class.
        decided = _plan_end(tunnel, over, over.ended, observed, now)
    else:
        terms = _terms(tunnel, klass, observed, default_image)
        if not isinstance(terms, Refusal):
            decided = _plan_session(tunnel, terms, observed, now)
        elif terms.reason is Reason.CLASS_NOT_FOUND and tunnel.is_running:
            decided = _plan_without_class(tunnel, terms, observed, now)
        else:
            decided = _plan_refusal(tunnel, terms, observed, now)
    told = transitions(tunnel.status, decided.status)
    return replace(decided, notices=(*told, *decided.notices))


def _terms(
    tunnel: Tunnel, klass: TunnelClass | None, observed: Observed, default_image: str
) -> Terms | Refusal:
    """Return the terms, by what a deleted class last said for a tunnel that runs, and for no other."""
    if observed.is_class_gone and not tunnel.is_running:
        return no_class(tunnel)
    return agree(
        tunnel,
        klass,
        default_image=default_image,
        namespace_labels=observed.namespace_labels,
    )


def _plan_session(tunnel: Tunnel, terms: Terms, observed: Observed, now: datetime) -> Plan:
    session = session_of(tunnel, terms, observed, now)
    if session.ended is not None:
        return _plan_end(tunnel, session, session.ended, observed, now)
    if not observed.has_place:
        found = findings.too_many(terms, tunnel.metadata.namespace)
        return Plan((), _status_with(tunnel, found, now), now + POLL)
    return _plan_open(tunnel, terms, session, observed, now)


def _plan_open(
    tunnel: Tunnel, terms: Terms, session: Session, observed: Observed, now: datetime
) -> Plan:
    opening = Opening(tunnel, terms, observed, session.expires_at, now)
    status = _open_status(opening, session)
    is_open = any(c.type == "Ready" and c.status == "True" for c in status.conditions)
    looked_at = observed.looked_at or now
    is_settled = is_open or is_lasting(observed.hybrid_connection, terms.klass)
    look_at = looked_at + (POLL if is_settled else good_for(observed.failures))
    times = [session.expires_at, *observed.retry_times()]
    if not observed.is_waiting(Step.LOOK, now):
        # A way that has just broken makes a look due that was not.
        times.append(max(look_at, now + JUST_NOW))
    times.extend(replacement_times(observed))
    if observed.answer is not None and observed.answer.at is not None:
        times.append(observed.answer.at + LISTENER_LAG)
    announce_at = expiry_notice_at(session.opened_at, session.expires_at)
    times.append(announce_at)
    is_news = now >= announce_at and observed.announced != session.expires_at
    notices = (expiry(session.expires_at),) if is_news else ()
    return Plan(
        opening.branches(),
        status,
        _next(times, now),
        notices,
        opening.reached(),
        opening.children.stage,
    )


def _open_status(opening: Opening, session: Session) -> TunnelStatus:
    tunnel, terms, observed = opening.tunnel, opening.terms, opening.observed
    hops = findings.find_hops(opening)
    is_there = isinstance(observed.hybrid_connection, HybridConnection)
    made = HybridConnectionStatus(name=terms.hybrid_connection)
    return TunnelStatus(
        observed_generation=tunnel.metadata.generation,
        tunnel_class_name=terms.class_name,
        url=terms.url,
        endpoints=tuple(
            Endpoint(
                name=port.name,
                address=f"{names.service(tunnel)}.{tunnel.metadata.namespace}.svc:{port.port}",
                host=terms.host_of(port),
            )
            for port in tunnel.spec.ports
        ),
        hybrid_connection=made if is_there else tunnel.status.hybrid_connection,
        device=observed.answer.status if observed.answer else None,
        opened_at=session.opened_at,
        expires_at=session.expires_at,
        conditions=merge(
            tunnel.status.conditions,
            findings.summarize(hops, observed, session.expires_at),
            generation=tunnel.metadata.generation,
            now=opening.now,
        ),
    )


def _plan_refusal(tunnel: Tunnel, refusal: Refusal, observed: Observed, now: datetime) -> Plan:
    """Leave what runs alone until its recorded end; the new terms are not known. What is not allowed is closed."""
    if refusal.reason is Reason.NOT_ALLOWED:
        return _plan_denial(tunnel, refusal, observed, now)
    status = _status_with(tunnel, findings.refused(refusal), now)
    expires_at = tunnel.status.expires_at
    is_over = tunnel.spec.suspend or not tunnel.is_running
    if tunnel.has_finalizer and (is_over or (expires_at is not None and now >= expires_at)):
        return _closing(tunnel, status, observed, now)
    # An end that has passed is no time to look again at: it would be looked at without a pause.
    return Plan((), status, _next([] if expires_at is None else [expires_at], now))


def _plan_denial(tunnel: Tunnel, refusal: Refusal, observed: Observed, now: datetime) -> Plan:
    """Close what runs, and keep it closed: should it be allowed again, it is opened for the rest of its time."""
    left = _left_behind(tunnel, observed)
    if tunnel.has_finalizer:
        text = f"{refusal.message} {_closing_message(tunnel, observed)}"
        refusal = replace(refusal, message=text)
    status = _status_with(tunnel, findings.refused(refusal), now).model_copy(
        update={
            "url": None,
            "endpoints": (),
            "hybrid_connection": HybridConnectionStatus(name=left) if left else None,
            "device": tunnel.status.device if tunnel.has_finalizer else None,
        }
    )
    return _closing(tunnel, status, observed, now)


def _plan_without_class(
    tunnel: Tunnel, refusal: Refusal, observed: Observed, now: datetime
) -> Plan:
    """Leave a tunnel that runs alone until its end: nobody knows any more what its class said.

    Forwarder and device need no operator. What breaks is not mended, and said.
    """
    session = recorded_session(tunnel, observed, now)
    if session is not None and session.ended is not None:
        return _plan_end(tunnel, session, session.ended, observed, now)
    is_proven = is_ready(observed.children.get(Kind.POD))
    found = (
        findings.running_without_class(tunnel)
        if is_proven
        else findings.refused(findings.broken_without_class(refusal))
    )
    times = () if session is None else (session.expires_at,)
    return Plan((), _status_with(tunnel, found, now), _next(times, now))


def _plan_end(
    tunnel: Tunnel, session: Session, ended: SessionStatus, observed: Observed, now: datetime
) -> Plan:
    reason = Reason(ended.reason)
    closed = is_closed(tunnel, observed) and not tunnel.has_finalizer
    left = _left_behind(tunnel, observed)
    message = _END_MESSAGES[reason] + (f" {left_behind_text(left)}" if closed and left else "")
    found: tuple[Finding, ...] = (findings.ready("False", reason, message),)
    if not closed:
        message = _closing_message(tunnel, observed)
        found = (*found, findings.reconciling(Reason.CLOSING, message))
    status = _status_with(tunnel, found, now).model_copy(
        update={
            "session": ended,
            "opened_at": session.opened_at,
            "expires_at": session.expires_at,
            "url": None,
            "endpoints": (),
            # What is still there is remembered until it is not.
            "hybrid_connection": HybridConnectionStatus(name=left) if left else None,
            "device": None if closed else tunnel.status.device,
        }
    )
    return _closing(tunnel, status, observed, now)


def _plan_deletion(tunnel: Tunnel, observed: Observed, now: datetime) -> Plan:
    message = _closing_message(tunnel, observed)
    found = (
        findings.ready("False", Reason.CLOSING, message),
        findings.reconciling(Reason.CLOSING, message),
    )
    status = _status_with(tunnel, found, now).model_copy(
        update={"session": with_totals(tunnel, observed)}
    )
    return _closing(tunnel, status, observed, now)


def _closing(tunnel: Tunnel, status: TunnelStatus, observed: Observed, now: datetime) -> Plan:
    """Take down what is left, and tell people when something is let go of that may be left."""
    left = _left_behind(tunnel, observed)
    is_let_go = left is not None and tunnel.has_finalizer and has_given_up(tunnel, observed, now)
    notices = (left_behind(left),) if left is not None and is_let_go else ()
    times = [*observed.retry_times(), *([now + POLL] if tunnel.has_finalizer else [])]
    return Plan(close(tunnel, observed, now), status, _next(times, now), notices)


def _left_behind(tunnel: Tunnel, observed: Observed) -> str | None:
    """Return the name of the hybrid connection that may be there still.

    It is off the record as soon as Azure says that it is gone, which is before the finalizer is; so what is
    on record without a finalizer was let go of.
    """
    there = tunnel.status.hybrid_connection
    is_gone = tunnel.has_finalizer and not is_in_azure(tunnel, observed)
    return None if there is None or is_gone else there.name


_END_MESSAGES = {
    Reason.EXPIRED: "Its time is over. To open it again, change spec.ttl or raise spec.renewals.",
    Reason.IDLE: "Closed for want of use. To open it again, raise spec.renewals.",
    Reason.SUSPENDED: "Closed because spec.suspend is true.",
}


def _closing_message(tunnel: Tunnel, observed: Observed) -> str:
    failure = next(iter(observed.failures.values()), None)
    if failure is not None:
        return f"Closing: {failure.message}"
    if observed.is_class_gone and observed.hybrid_connection is NoHybridConnection.UNKNOWN:
        return (
            "The TunnelClass is gone, so the hybrid connection can not be deleted. Create the class "
            "again, or wait until the tunnel's tokens have expired."
        )
    return f"Closing the tunnel to device {str(tunnel.spec.device)!r}."


def _status_with(tunnel: Tunnel, found: tuple[Finding, ...], now: datetime) -> TunnelStatus:
    generation = tunnel.metadata.generation
    conditions = merge(tunnel.status.conditions, found, generation=generation, now=now)
    return tunnel.status.model_copy(
        update={"observed_generation": generation, "conditions": conditions}
    )


def _next(times: Iterable[datetime], now: datetime) -> datetime | None:
    return min((moment for moment in times if moment > now), default=None)
