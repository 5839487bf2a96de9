"""How a changed class reaches the forwarders that work: a few at a time, and no further than it does good."""

from datetime import timedelta
from enum import Enum

from ..api.reasons import Reason
from .observed import Child, Observed
from .pods import is_ready, trouble

AT_ONCE = 5
"""How many tunnels of a class may have a working forwarder replaced at the same time."""

PATIENCE = timedelta(minutes=2)
"""How long a replaced forwarder is waited for that has nothing wrong with it: its device may have gone."""

_BROKEN = (Reason.IMAGE_UNAVAILABLE, Reason.FORWARDER_FAILED)


class Stage(Enum):
    """Where an open tunnel is with its forwarder."""

    STEADY = "steady"
    """It works, and is as it is wanted."""

    WAITS = "waits"
    """It works, is to be replaced, and its turn has not come."""

    BEGINS = "begins"
    """It works, and is replaced now."""

    UNDER_WAY = "under way"
    """It does not work yet, or just now."""

    BROKEN = "broken"
    """It can not run as it is wanted, and so would no other of the class."""


def stage_of(pod: Child | None, observed: Observed, *, is_outdated: bool) -> Stage:
    """Return the stage of a tunnel with this Pod. One that does not work is nobody's loss, and is replaced."""
    if pod is not None and is_ready(pod):
        if not is_outdated:
            return Stage.STEADY
        return Stage.BEGINS if observed.may_replace else Stage.WAITS
    what = None if pod is None else trouble(pod)
    return Stage.BROKEN if what is not None and what[0] in _BROKEN else Stage.UNDER_WAY
