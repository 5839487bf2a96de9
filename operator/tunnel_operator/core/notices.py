"""What people are told of as an Event: transitions, and an end that comes near."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ..api.base import format_time
from ..api.reasons import ConditionType, Reason
from ..api.tunnel import TunnelStatus

EXPIRY_NOTICE = timedelta(minutes=5)
"""How long before its end a tunnel's end is announced, at the most; a fifth of a short life."""


class Severity(StrEnum):
    """The types of an Event."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class Notice:
    """One Event to be."""

    severity: Severity
    reason: Reason
    action: str
    message: str


_BY_THE_WAY = (Reason.CLASS_DELETED,)
"""Reasons of Accepted that people are to hear of though it is true."""

_CALM = {
    Reason.OPEN: "Open",
    Reason.OPENING: "Open",
    Reason.STARTING: "Open",
    Reason.WAITING_FOR_ADDRESS: "Open",
    Reason.WAITING_FOR_GATEWAY: "Open",
    Reason.TOO_MANY_TUNNELS: "Open",
    Reason.CLOSING: "Close",
    Reason.EXPIRED: "Close",
    Reason.IDLE: "Close",
    Reason.SUSPENDED: "Close",
}
"""Reasons that are the ordinary course of things, and what is being done."""

_AT_REST = ("Pending", Reason.EXPIRED, Reason.IDLE, Reason.SUSPENDED)
"""What Ready says while nobody opens a tunnel: the CRD's default, and how a session ended."""


def transitions(before: TunnelStatus, after: TunnelStatus) -> tuple[Notice, ...]:
    """Return a notice when the reason of Ready changes, or a class has gone; none for the same state again.

    Nor is there one when an opening begins: what comes of it has one, mostly within two seconds.
    """
    found = []
    for kind in (ConditionType.ACCEPTED, ConditionType.READY):
        was, is_now = before.condition(kind), after.condition(kind)
        if is_now is None or (was is not None and was.reason == is_now.reason):
            continue
        reason = Reason(is_now.reason)
        if reason is Reason.OPENING and (was is None or was.reason in _AT_REST):
            continue
        if kind is ConditionType.READY or reason in _BY_THE_WAY:
            severity = Severity.NORMAL if reason in _CALM else Severity.WARNING
            message = is_now.message or reason
            found.append(Notice(severity, reason, _CALM.get(reason, "Open"), message))
    return tuple(found)


def left_behind(hybrid_connection: str) -> Notice:
    """Return the announcement that a tunnel is let go of while something of it may be in Azure."""
    return Notice(
        Severity.WARNING, Reason.LEFT_BEHIND, "Close", left_behind_text(hybrid_connection)
    )


def left_behind_text(hybrid_connection: str) -> str:
    """Say what may be in Azure still, and what becomes of it."""
    return (
        f"Hybrid connection {hybrid_connection!r} may be left in Azure Relay, where it could not be "
        "removed; no token opens it any more. The operator's sweeper finds it when that is on and a "
        "TunnelClass of its Relay namespace is there."
    )


def expiry_notice_at(opened_at: datetime, expires_at: datetime) -> datetime:
    """Return when the end of a tunnel is to be announced."""
    return expires_at - min(EXPIRY_NOTICE, (expires_at - opened_at) / 5)


def expiry(expires_at: datetime) -> Notice:
    """Return the announcement of a tunnel's end."""
    return Notice(
        Severity.WARNING,
        Reason.EXPIRES_SOON,
        "Close",
        f"It closes at {format_time(expires_at)}. Raise spec.ttl to keep it open.",
    )
