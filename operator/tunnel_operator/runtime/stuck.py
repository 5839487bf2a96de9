"""What will not come to rest: a child that is not as it was just written, a pass that finds no end.

Both are tried again later each time, up to every few minutes: at once would be for ever, some times a second.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from ..api.keys import Key
from ..core.actions import Action, ApplyObject, Plan
from ..core.manifests import is_applied
from ..core.observed import Kind
from .memory import Memory

log = structlog.get_logger(__name__)


def heed_answer(
    memory: Memory, key: Key, manifest: Mapping[str, Any], seen: Mapping[str, Any], now: datetime
) -> None:
    """Hold a child back from now on if the API server's answer is not what was written."""
    kind = Kind(manifest["kind"])
    if is_applied(manifest, seen):
        memory.release(key, kind)
        return
    retry_at = memory.hold(key, kind, now)
    log.warning(
        "child.altered",
        tunnel=str(key),
        child=f"{kind} {manifest['metadata']['name']}",
        message="The API server did not keep it as it was written. An admission webhook may change it.",
        retry_at=retry_at.isoformat(),
    )


def put_off(memory: Memory, key: Key, decision: Plan, now: datetime) -> datetime:
    """Return when to go on with a pass that found no end: at the latest when something is planned anyway."""
    again_at = memory.unsettled(key, now)
    actions = [_short(action) for branch in decision.branches for action in branch]
    log.warning(
        "reconcile.unsettled", tunnel=str(key), actions=actions, again_at=again_at.isoformat()
    )
    return min(again_at, decision.recheck_at or again_at)


def _short(action: Action) -> str:
    name = type(action).__name__
    return f"{name} {action.manifest['kind']}" if isinstance(action, ApplyObject) else name
