"""A tunnel's session: from its opening to its end, once for each change of the spec."""

from dataclasses import dataclass, replace
from datetime import datetime

from ..api.reasons import Reason
from ..api.tunnel import SessionStatus, Tunnel
from .observed import ForwarderEnd, Kind, Observed
from .pods import created_at, end_of
from .terms import Terms


@dataclass(frozen=True, slots=True)
class Session:
    """`ended` is set once the session is over; it stays so for this generation of the spec."""

    opened_at: datetime
    expires_at: datetime
    ended: SessionStatus | None = None


def session_of(tunnel: Tunnel, terms: Terms, observed: Observed, now: datetime) -> Session:
    """Return the session that a tunnel has now, or has just come to the end of.

    A tunnel whose session ended is opened again only by a later generation of its spec, so that a
    repeated apply of the same manifest opens nothing. All else follows from what the status records.
    """
    status = tunnel.status
    over = ended_session(tunnel, observed)
    if over is not None:
        return over
    began = status.opened_at if status.session is None else None
    # Whole seconds: the status holds no more, and the same times must come out of every pass.
    opened_at = began or now.replace(microsecond=0)
    expires_at = opened_at + terms.ttl
    if observed.is_class_gone and began is not None and status.expires_at is not None:
        # What a class no longer offers is kept as it was promised, and not made longer.
        expires_at = min(expires_at, status.expires_at)
    return _judged(tunnel, Session(opened_at, expires_at), observed, now)


def ended_session(tunnel: Tunnel, observed: Observed) -> Session | None:
    """Return the session that has ended for this generation of the spec, as it is on record."""
    status = tunnel.status
    if status.session is None or status.session.generation < tunnel.metadata.generation:
        return None
    opened_at = status.opened_at or status.session.ended_at
    expires_at = status.expires_at or status.session.ended_at
    return Session(opened_at, expires_at, with_totals(tunnel, observed))


def recorded_session(tunnel: Tunnel, observed: Observed, now: datetime) -> Session | None:
    """Return a running tunnel's session by the status alone, for when the terms are not known."""
    opened_at, expires_at = tunnel.status.opened_at, tunnel.status.expires_at
    if not tunnel.is_running or opened_at is None or expires_at is None:
        return None
    return _judged(tunnel, Session(opened_at, expires_at), observed, now)


def _judged(tunnel: Tunnel, session: Session, observed: Observed, now: datetime) -> Session:
    """Return the session with its end, if it has come to it now."""
    end = forwarder_end(observed, session.opened_at)
    reason = _end_reason(tunnel, end, now, session.expires_at)
    if reason is None:
        return session
    ended_at = now.replace(microsecond=0)
    record = (end or ForwarderEnd(reason)).session(tunnel.metadata.generation, ended_at, reason)
    return replace(session, ended=record)


def with_totals(tunnel: Tunnel, observed: Observed) -> SessionStatus | None:
    """Return the record of the ended session, with the forwarder's totals once they have come in."""
    session, opened_at = tunnel.status.session, tunnel.status.opened_at
    if session is None or session.connections is not None or opened_at is None:
        return session
    end = forwarder_end(observed, opened_at)
    if end is None or end.connections is None:
        return session
    return end.session(session.generation, session.ended_at, Reason(session.reason))


def forwarder_end(observed: Observed, opened_at: datetime) -> ForwarderEnd | None:
    """Return how this session's forwarder ended; one from before the session says nothing about it."""
    pod = observed.children.get(Kind.POD)
    if pod is None or created_at(pod) < opened_at:
        return None
    return end_of(pod)


def _end_reason(
    tunnel: Tunnel, end: ForwarderEnd | None, now: datetime, expires_at: datetime
) -> Reason | None:
    if tunnel.spec.suspend:
        return Reason.SUSPENDED
    if now >= expires_at:
        return Reason.EXPIRED
    return Reason.IDLE if end is not None and end.reason == Reason.IDLE else None
