"""The decision: from a Tunnel, its class, what is seen and the time, to what to do next.

`plan` is pure and level-triggered: it looks at the whole state each time, and never at what happened. The
same state gives the same plan, and a state in which all is as wanted gives a plan without actions.

    opening or open  ──> finalizer, then hybrid connection, then device and children side by side
    ended            ──> close: device, hybrid connection and children; then remove the finalizer
    deleted          ──> the same
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from ..api.conditions import Finding, merge
from ..api.reasons import Reason
from ..api.tunnel import Endpoint, HybridConnectionStatus, SessionStatus, Tunnel, TunnelStatus
from ..api.tunnel_class import TunnelClass
from . import findings, names
from .actions import Plan
from .children import replacement_time
from .closing import close, is_closed
from .notices import expiry, expiry_notice_at, transitions
from .observed import HybridConnection, NoHybridConnection, Observed
from .opening import open_branches
from .session import Session, session_of, with_totals
from .terms import Refusal, Terms, agree

POLL = timedelta(minutes=5)
"""How often Azure is looked at when nothing else gives occasion to."""

LOOK_AGAIN = timedelta(seconds=15)
"""The same while the way is not whole: a device that forgot the tunnel gives no sign of it."""


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
        decided = _plan_deletion(tunnel, klass, observed, now)
    else:
        terms = agree(tunnel, klass, default_image=default_image)
        decided = (
            _plan_refusal(tunnel, terms, observed, now)
            if isinstance(terms, Refusal)
            else _plan_session(tunnel, terms, observed, now)
        )
    told = transitions(tunnel.status, decided.status)
    return replace(decided, notices=(*told, *decided.notices))


def _plan_session(tunnel: Tunnel, terms: Terms, observed: Observed, now: datetime) -> Plan:
    session = session_of(tunnel, terms, observed, now)
    if session.ended is not None:
        return _plan_end(tunnel, session, session.ended, observed, now)
    return _plan_open(tunnel, terms, session, observed, now)


def _plan_open(
    tunnel: Tunnel, terms: Terms, session: Session, observed: Observed, now: datetime
) -> Plan:
    status = _open_status(tunnel, terms, session, observed, now)
    branches = open_branches(tunnel, terms, observed, session.expires_at, now)
    is_open = any(c.type == "Ready" and c.status == "True" for c in status.conditions)
    times = [session.expires_at, now + (POLL if is_open else LOOK_AGAIN), *observed.retry_times()]
    replacement = replacement_time(observed)
    if replacement is not None:
        times.append(replacement)
    if observed.answer is not None and observed.answer.at is not None:
        times.append(observed.answer.at + findings.LISTENER_LAG)
    announce_at = expiry_notice_at(session.opened_at, session.expires_at)
    times.append(announce_at)
    is_news = now >= announce_at and observed.announced != session.expires_at
    notices = (expiry(session.expires_at),) if is_news else ()
    return Plan(branches, status, _next(times, now), notices)


def _open_status(
    tunnel: Tunnel, terms: Terms, session: Session, observed: Observed, now: datetime
) -> TunnelStatus:
    hops = findings.find_hops(tunnel, terms, observed, session.expires_at, now)
    is_there = isinstance(observed.hybrid_connection, HybridConnection)
    made = HybridConnectionStatus(name=terms.hybrid_connection)
    return TunnelStatus(
        observed_generation=tunnel.metadata.generation,
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
            now=now,
        ),
    )


def _plan_refusal(tunnel: Tunnel, refusal: Refusal, observed: Observed, now: datetime) -> Plan:
    """Leave what runs alone until its recorded end; the new terms are not known."""
    status = _status_with(tunnel, findings.refused(refusal), now)
    expires_at = tunnel.status.expires_at
    if tunnel.has_finalizer and expires_at is not None and now >= expires_at:
        return Plan(close(tunnel, observed, now), status, _next(observed.retry_times(), now))
    # An end that has passed is no time to look again at: it would be looked at without a pause.
    return Plan((), status, _next([] if expires_at is None else [expires_at], now))


def _plan_end(
    tunnel: Tunnel, session: Session, ended: SessionStatus, observed: Observed, now: datetime
) -> Plan:
    reason = Reason(ended.reason)
    closed = is_closed(tunnel, observed) and not tunnel.has_finalizer
    found: tuple[Finding, ...] = (findings.ready("False", reason, _END_MESSAGES[reason]),)
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
            "hybrid_connection": None if closed else tunnel.status.hybrid_connection,
            "device": None if closed else tunnel.status.device,
        }
    )
    return Plan(close(tunnel, observed, now), status, _next(observed.retry_times(), now))


def _plan_deletion(
    tunnel: Tunnel, klass: TunnelClass | None, observed: Observed, now: datetime
) -> Plan:
    message = _closing_message(tunnel, observed)
    if klass is None and observed.hybrid_connection is NoHybridConnection.UNKNOWN:
        message = (
            "The TunnelClass is gone, so the hybrid connection can not be deleted. Create the class "
            "again, or wait until the tunnel's tokens have expired."
        )
    found = (
        findings.ready("False", Reason.CLOSING, message),
        findings.reconciling(Reason.CLOSING, message),
    )
    status = _status_with(tunnel, found, now).model_copy(
        update={"session": with_totals(tunnel, observed)}
    )
    times = [*observed.retry_times(), now + POLL]
    return Plan(close(tunnel, observed, now), status, _next(times, now))


_END_MESSAGES = {
    Reason.EXPIRED: "Its time is over. To open it again, change spec.ttl or raise spec.renewals.",
    Reason.IDLE: "Closed for want of use. To open it again, raise spec.renewals.",
    Reason.SUSPENDED: "Closed because spec.suspend is true.",
}


def _closing_message(tunnel: Tunnel, observed: Observed) -> str:
    failure = next(iter(observed.failures.values()), None)
    if failure is not None:
        return f"Closing: {failure.message}"
    return f"Closing the tunnel to device {str(tunnel.spec.device)!r}."


def _status_with(tunnel: Tunnel, found: tuple[Finding, ...], now: datetime) -> TunnelStatus:
    generation = tunnel.metadata.generation
    conditions = merge(tunnel.status.conditions, found, generation=generation, now=now)
    return tunnel.status.model_copy(
        update={"observed_generation": generation, "conditions": conditions}
    )


def _next(times: Iterable[datetime], now: datetime) -> datetime | None:
    return min((moment for moment in times if moment > now), default=None)
