"""When Azure is asked anew what there is of a tunnel, and how closely. Each question costs of one budget."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..api.reasons import ConditionType
from ..api.tunnel import Tunnel
from ..api.tunnel_class import TunnelClassSpec
from . import names
from .observed import Child, DeviceAnswer, Failure, HybridConnection, NoHybridConnection, Step
from .pods import is_ready

POLL = timedelta(minutes=5)
"""How often Azure is looked at when nothing else gives occasion to."""

LOOK_AGAIN = timedelta(seconds=15)
"""The same while the way is not whole: a device that forgot the tunnel gives no sign of it."""

JUST_NOW = timedelta(seconds=2)
"""For so long a look is good whatever has happened since: what is said of the tunnel lags behind, too."""

RULES_AGAIN = timedelta(hours=1)
"""How often at least the rules of a tunnel that is open are looked at, too: those of many take many calls,
and one that is missing shows in a forwarder that is ready no longer."""

LISTENER_LAG = timedelta(seconds=30)
"""How long Azure may take to count a listener that the device says it has opened."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was found in Azure, when, and since when its rules are taken to be as they were seen."""

    found: HybridConnection | NoHybridConnection
    at: datetime
    rules_at: datetime


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a tunnel without asking Azure."""

    pod: Child | None = None
    answer: DeviceAnswer | None = None
    failures: Mapping[Step, Failure] = field(default_factory=dict)


def is_due(
    tunnel: Tunnel, klass: TunnelClassSpec, look: Look | None, signs: Signs, now: datetime
) -> bool:
    """Tell whether what is known is too old.

    While the forwarder is ready it has just met the device in Azure. When it ceases to be, what was seen
    before that is worth nothing.
    """
    if look is None:
        return True
    if is_lasting(look.found, klass) or _is_over(tunnel):
        # Nobody but us has anything to do there any more, and a question would take the call that the tunnel
        # has stood in line for to be taken down: with more of them than calls, none would ever go.
        return now >= look.at + POLL
    if is_ready(signs.pod):
        return now >= look.at + (POLL if is_open(tunnel) else good_for(signs.failures))
    if is_open(tunnel):
        return now >= look.at + JUST_NOW
    answer = signs.answer
    if answer is not None and answer.at is not None:
        counted_at = answer.at + LISTENER_LAG
        if look.at < counted_at <= now:
            return True
    return now >= look.at + good_for(signs.failures)


def good_for(failures: Mapping[Step, Failure]) -> timedelta:
    """Return how long a look is good for while the way is not whole.

    As long as the device can not be told, Azure has nothing new to say of it: a device that finds its way
    back by itself shows in a forwarder that gets ready, and each attempt to tell it reads a key there, which
    shows whether all that is needed is still in place. A fleet that is offline would use up the calls of all.
    """
    return POLL if Step.DEVICE in failures else LOOK_AGAIN


def is_lasting(found: HybridConnection | NoHybridConnection, klass: TunnelClassSpec) -> bool:
    """Tell whether what was missing still is: nobody but us makes it, and what we make is looked at anew.

    A tunnel that waits in line to have it made would spend a call of those in line on each such question.
    """
    return found is NoHybridConnection.ABSENT and names.is_new_for_each(klass)


def needs_rules(tunnel: Tunnel, look: Look | None, signs: Signs, now: datetime) -> bool:
    """Tell whether a look is to include the rules.

    Those of a tunnel that works are seldom of interest, and of one whose device can not be told no more.
    """
    is_working = is_open(tunnel) and is_ready(signs.pod)
    is_untold = look is not None and Step.DEVICE in signs.failures
    if not is_working and not is_untold:
        return True
    if look is None:
        # This process has just begun, and so have all its tunnels for it.
        return False
    share = zlib.crc32(tunnel.metadata.uid.encode()) / (1 << 32)
    return now >= look.rules_at + RULES_AGAIN * (1 + share) / 2


def _is_over(tunnel: Tunnel) -> bool:
    """Tell whether the tunnel is being taken down or has been."""
    session = tunnel.status.session
    has_ended = session is not None and session.generation == tunnel.metadata.generation
    return tunnel.is_deleting or has_ended


def is_open(tunnel: Tunnel) -> bool:
    """Tell whether the tunnel was open when its status was last written."""
    ready = tunnel.status.condition(ConditionType.READY)
    return ready is not None and ready.status == "True"
