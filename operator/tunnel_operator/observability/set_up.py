"""How long each hop took from the opening of a tunnel on, out of its conditions. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ..api.reasons import ConditionType
from ..api.tunnel import TunnelStatus

MEASURED = (
    ConditionType.HYBRID_CONNECTION_READY,
    ConditionType.DEVICE_LISTENING,
    ConditionType.FORWARDER_READY,
    ConditionType.EXPOSED,
    ConditionType.READY,
)
"""`Accepted` is left out: it is true in the moment in which the tunnel opens, or the tunnel does not open."""


@dataclass(frozen=True, slots=True)
class SetUp:
    """One session whose opening was seen, and the hops that have been there once since.

    `began` is `opened_at` with the part of a second that the status does not hold.
    """

    opened_at: datetime
    began: datetime
    reached: frozenset[ConditionType] = field(default_factory=frozenset)


def follow(
    known: SetUp | None, before: TunnelStatus, after: TunnelStatus
) -> tuple[SetUp | None, Mapping[ConditionType, timedelta]]:
    """Return the session as it is known now, and the time of each hop that is there for the first time.

    A session is measured only when its opening was seen. One that was opened by an earlier process may
    have had its hops before; what returns after a device's reboot would be taken for a slow set-up.
    """
    if after.opened_at is None or after.session is not None:
        return None, {}
    if known is None or known.opened_at != after.opened_at:
        if before.opened_at == after.opened_at:
            return None, {}
        known = SetUp(after.opened_at, _began(after, after.opened_at))
    times: dict[ConditionType, timedelta] = {}
    for hop in MEASURED:
        condition = after.condition(hop)
        if condition is None or condition.status != "True" or hop in known.reached:
            continue
        times[hop] = max(condition.last_transition_time - known.began, timedelta(0))
    return replace(known, reached=known.reached | times.keys()), times


def _began(after: TunnelStatus, opened_at: datetime) -> datetime:
    """Return the exact moment of the opening, which is that of the decision to accept."""
    accepted = after.condition(ConditionType.ACCEPTED)
    if accepted is None:
        return opened_at
    exact = accepted.last_transition_time
    return exact if opened_at <= exact < opened_at + timedelta(seconds=1) else opened_at
