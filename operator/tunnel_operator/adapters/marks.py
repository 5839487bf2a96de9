"""The ownership mark: what a hybrid connection's user metadata says of whom it was made for."""

import json
from dataclasses import dataclass

OWNER = "tunnels.dev"


@dataclass(frozen=True, slots=True)
class Mark:
    """The Tunnel as namespace/name, its uid, and the id of its cluster, which may be empty.

    The correlation id is for people, who find by it what logs say of this hybrid connection; it decides nothing, so
    that one without it is not written again.
    """

    tunnel: str
    uid: str
    cluster: str
    correlation_id: str = ""
    is_retained: bool = False


def write_mark(mark: Mark) -> str:
    """Return the text of a mark."""
    body = {"owner": OWNER, "tunnel": mark.tunnel, "uid": mark.uid, "cluster": mark.cluster}
    kept = {"retained": True} if mark.is_retained else {}
    return json.dumps({**body, "correlationId": mark.correlation_id, **kept})


def read_mark(text: str | None) -> Mark | None:
    """Return the mark, or None for a text that is somebody else's."""
    try:
        mark = json.loads(text or "")
        if mark["owner"] != OWNER or "/" not in mark["tunnel"]:
            return None
        return Mark(
            tunnel=str(mark["tunnel"]),
            uid=str(mark["uid"]),
            cluster=str(mark.get("cluster") or ""),
            correlation_id=str(mark.get("correlationId") or ""),
            is_retained=mark.get("retained") is True,
        )
    except (ValueError, KeyError, TypeError):
        return None
