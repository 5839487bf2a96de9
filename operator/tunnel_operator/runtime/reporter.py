"""Saying how a Tunnel is: in its status, as Events, and while something takes its time."""

import asyncio

import structlog

from ..api.conditions import Condition
from ..api.reasons import ConditionType, Reason
from ..api.tunnel import Tunnel, TunnelStatus
from ..core import names
from ..core.actions import Plan
from ..errors import TunnelError
from .leadership import Leadership
from .memory import Memory
from .patience import Patience
from .ports import Cluster, Events

_TOLD_ONCE = frozenset({Reason.LEFT_BEHIND, Reason.EXPIRES_SOON})
"""What no later round finds in a changed status."""

log = structlog.get_logger(__name__)


class Round:
    """One round of a pass: the Tunnel as it was at its beginning, and what is said of it.

    `is_certain`: it has just been read. What a watch brought may be older than what there is.
    """

    def __init__(self, tunnel: Tunnel, *, is_certain: bool) -> None:
        self.tunnel = tunnel
        self.is_certain = is_certain
        self.newest: Tunnel | None = tunnel
        """The Tunnel as the newest write returned it; None when it is gone."""

    def keep(self, written: Tunnel | None) -> None:
        """Take what a write returned. Writes run side by side, and may return in another order."""
        if self.newest is None or written is None:
            self.newest = None
        elif _version(written) >= _version(self.newest):
            self.newest = written


class Reporter:
    """Writes status and Events, if anything has changed."""

    def __init__(
        self,
        cluster: Cluster,
        events: Events,
        memory: Memory,
        leadership: Leadership,
        patience: Patience | None = None,
    ) -> None:
        self._cluster = cluster
        self._events = events
        self._memory = memory
        self._leadership = leadership
        self._patience = patience or Patience()

    async def say(self, current: Round, decision: Plan) -> None:
        """Write what is decided: at once if nothing is left to do or it is a record, else `meanwhile` may.

        Raises ConflictError if the Tunnel is not as it was when a record was decided on: people may have
        extended meanwhile what would be recorded as over.
        """
        is_told_once = any(notice.reason in _TOLD_ONCE for notice in decision.notices)
        is_record = _is_record(current.tunnel.status, decision.status)
        if is_record or is_told_once or not decision.branches:
            await self._say(current, decision, only_unchanged=is_record and not current.is_certain)

    async def meanwhile(self, current: Round, decision: Plan, done: asyncio.Event) -> None:
        """Write what is decided if doing it takes longer than one likes to wait for a word."""
        try:
            async with asyncio.timeout(self._patience.seconds()):
                await done.wait()
                return
        except TimeoutError:
            pass
        try:
            await self._say(current, decision)
        except TunnelError as error:
            # What is being done is worth more than what is said of it.
            log.warning("status.unsaid", tunnel=str(current.tunnel), message=error.message)

    async def _say(self, current: Round, decision: Plan, *, only_unchanged: bool = False) -> None:
        # One after the other: what could not be written is decided, and would be told, again.
        await self._report(current, decision.status, only_unchanged=only_unchanged)
        await self._tell(current.tunnel, decision)

    async def _report(self, current: Round, status: TunnelStatus, *, only_unchanged: bool) -> None:
        tunnel = current.newest or current.tunnel
        before = tunnel.status
        ours = before.model_copy(update={"conditions": tuple(_ours(before.conditions))})
        if status == ours:
            return
        self._leadership.require()
        with self._patience.measured():
            current.keep(
                await self._cluster.apply_status(tunnel, status, only_unchanged=only_unchanged)
            )
        ready, was = status.condition(ConditionType.READY), before.condition(ConditionType.READY)
        if ready is not None and (was is None or was.reason != ready.reason):
            log.info(
                "tunnel.ready" if ready.status == "True" else "tunnel.not_ready",
                tunnel=str(tunnel),
                correlation_id=names.correlation_id(tunnel),
                reason=ready.reason,
                message=ready.message,
            )

    async def _tell(self, tunnel: Tunnel, decision: Plan) -> None:
        key = tunnel.key
        for notice in decision.notices:
            try:
                await self._events.record(tunnel, notice)
            except TunnelError as error:
                log.warning("event.lost", tunnel=str(key), message=error.message)
            if notice.reason is Reason.EXPIRES_SOON:
                self._memory.keep_announced(key, decision.status.expires_at)


def _is_record(before: TunnelStatus, after: TunnelStatus) -> bool:
    """Tell whether something changes that nothing else remembers, and that later rounds build on.

    A hybrid connection that is on record without a finalizer counts as left behind.
    """
    is_off = before.hybrid_connection is not None and after.hybrid_connection is None
    return is_off or any(
        getattr(before, name) != getattr(after, name)
        for name in ("tunnel_class_name", "opened_at", "expires_at", "session", "device")
    )


def _ours(conditions: tuple[Condition, ...]) -> list[Condition]:
    """Return the conditions that the operator writes; others may have added theirs."""
    types = set(ConditionType)
    return [condition for condition in conditions if condition.type in types]


def _version(tunnel: Tunnel) -> int:
    return int(tunnel.metadata.resource_version or 0)
