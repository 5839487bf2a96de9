"""What kstatus makes of an object: Flux, `kubectl` plugins and others wait by it.

A port of the generic rules of sigs.k8s.io/cli-utils, pkg/kstatus/status, in their order. The rules for built-in
kinds are left out.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class KStatus(StrEnum):
    """The statuses that an existing object can have."""

    IN_PROGRESS = "InProgress"
    FAILED = "Failed"
    CURRENT = "Current"
    TERMINATING = "Terminating"


def kstatus(body: Mapping[str, Any]) -> KStatus:
    """Return what kstatus says of an object in the API's JSON form."""
    metadata, status = body["metadata"], body.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return KStatus.TERMINATING
    observed = status.get("observedGeneration")
    if observed is not None and observed != metadata.get("generation"):
        return KStatus.IN_PROGRESS
    conditions = status.get("conditions") or ()
    for condition in conditions:
        if (condition["type"], condition["status"]) == ("Reconciling", "True"):
            return KStatus.IN_PROGRESS
        if (condition["type"], condition["status"]) == ("Stalled", "True"):
            return KStatus.FAILED
    for condition in conditions:
        if condition["type"] == "Ready":
            return KStatus.CURRENT if condition["status"] == "True" else KStatus.IN_PROGRESS
    # The trap: an object that nobody has looked at yet is taken for one that is as it should be.
    return KStatus.CURRENT
