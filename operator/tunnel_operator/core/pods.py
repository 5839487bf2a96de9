"""What a forwarder's Pod says of itself."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..api.reasons import Reason
from .observed import Child, ForwarderEnd

_ENDED = ("Succeeded", "Failed")
_TELLING = {"Ready": "True", "PodScheduled": "False"}
_IMAGE_TROUBLE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CRASHING = "CrashLoopBackOff"


def what_is_read(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a Pod's status what the functions here read.

    Of all that a Pod goes through until it is Ready that is the last only, unless something keeps it from that.
    """
    kept: dict[str, Any] = {
        "conditions": [
            {name: condition[name] for name in ("type", "status", "message") if name in condition}
            for condition in status.get("conditions") or ()
            if condition["status"] == _TELLING.get(condition["type"])
        ]
    }
    container = _container(status)
    states = {name: _telling(container.get(name) or {}) for name in ("state", "lastState")}
    if any(states.values()):
        kept["containerStatuses"] = [states]
    if status.get("phase") in _ENDED:
        kept["phase"] = status["phase"]
    if "message" in status:
        kept["message"] = status["message"]
    return kept


def _telling(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container's state if it has ended, or if what it waits for is no part of a start."""
    if "terminated" in state:
        return {"terminated": state["terminated"]}
    reason = (state.get("waiting") or {}).get("reason")
    is_stuck = reason in _IMAGE_TROUBLE or reason == _CRASHING
    return {"waiting": {"reason": reason}} if is_stuck else {}


def is_ready(pod: Child | None) -> bool:
    """Tell whether the forwarder has proven the way to the device, and still does."""
    if pod is None or pod.is_deleting:
        return False
    conditions = _status(pod).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def created_at(pod: Child) -> datetime:
    """Return when the Pod was made."""
    return datetime.fromisoformat(pod.body["metadata"]["creationTimestamp"])


def due_to_be_gone(pod: Child) -> datetime | None:
    """Return when a Pod that is deleted has had its grace period; None for one that is not deleted."""
    due = pod.body["metadata"].get("deletionTimestamp")
    return None if due is None else datetime.fromisoformat(due)


def end_of(pod: Child) -> ForwarderEnd | None:
    """Return how the forwarder ended, or None while it may still run or be started again."""
    if _status(pod).get("phase") not in _ENDED:
        return None
    terminated = (_container(_status(pod)).get("state") or {}).get("terminated") or {}
    fallback = str(
        _status(pod).get("message") or terminated.get("reason") or "It ended without a word."
    )
    return _read_end(terminated.get("message"), fallback)


def trouble(pod: Child) -> tuple[Reason, str] | None:
    """Return what keeps a forwarder from running, when that is known."""
    waiting = (_container(_status(pod)).get("state") or {}).get("waiting") or {}
    reason = waiting.get("reason")
    if reason in _IMAGE_TROUBLE:
        return Reason.IMAGE_UNAVAILABLE, f"The forwarder's image can not be had: {reason}."
    if reason == _CRASHING:
        last = (_container(_status(pod)).get("lastState") or {}).get("terminated") or {}
        end = _read_end(last.get("message"), f"exit code {last.get('exitCode')}")
        words = (end.message or end.reason).rstrip(".")
        return Reason.FORWARDER_FAILED, f"The forwarder keeps failing: {words}."
    for condition in _status(pod).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return Reason.STARTING, f"No node takes the forwarder: {condition.get('message', '')}"
    return None


def _read_end(message: object, fallback: str) -> ForwarderEnd:
    """Read a termination message; what is not the forwarder's own becomes a failure with its last line."""
    lines = str(message or "").strip().splitlines()
    try:
        body = json.loads(str(message))
        last = body.get("lastActivity")
        return ForwarderEnd(
            reason=str(body["reason"]),
            message=str(body.get("message") or ""),
            connections=_count(body, "connections"),
            bytes_in=_count(body, "bytesIn"),
            bytes_out=_count(body, "bytesOut"),
            last_activity=datetime.fromisoformat(last) if last else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return ForwarderEnd(reason="Failed", message=lines[-1] if lines else fallback)


def _count(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    return None if value is None else int(value)


def _status(pod: Child) -> Mapping[str, Any]:
    return pod.body.get("status") or {}


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = status.get("containerStatuses") or ()
    return statuses[0] if statuses else {}
