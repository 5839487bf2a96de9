"""Conditions, and how they change."""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from .base import Model, Time
from .reasons import ConditionType, Reason

Truth = Literal["True", "False", "Unknown"]


class Condition(Model):
    """One condition as the API shows it. `reason` is a plain string when another writer chose it."""

    type: str
    status: Truth
    reason: str
    message: str = ""
    last_transition_time: Time
    observed_generation: int | None = None


class Finding(Model):
    """What is so now about one condition, before it is known whether that is a change."""

    type: ConditionType
    status: Truth
    reason: Reason
    message: str = ""


def merge(
    previous: Iterable[Condition], findings: Iterable[Finding], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions for the findings; the time of a condition moves only when its status does."""
    since = {condition.type: condition for condition in previous}

    def transition_time(finding: Finding) -> datetime:
        before = since.get(finding.type)
        unchanged = before is not None and before.status == finding.status
        return before.last_transition_time if before is not None and unchanged else now

    return tuple(
        Condition(
            type=finding.type,
            status=finding.status,
            reason=finding.reason,
            message=finding.message,
            last_transition_time=transition_time(finding),
            observed_generation=generation,
        )
        for finding in findings
    )
