"""The ownership mark: what a hybrid connection's user metadata says of whom it was made for."""

import json
from dataclasses import dataclass

OWNER = "tunnels.dev"


@dataclass(frozen=True, slots=True)
class Mark:
    """The Tunnel as namespace/name, its uid, and the id of its cluster, which may be empty."""

    tunnel: str
    uid: str
    cluster: str


def write_mark(tunnel: str, uid: str, cluster: str) -> str:
    """Return the text of a mark."""
    return json.dumps({"owner": OWNER, "tunnel": tunnel, "uid": uid, "cluster": cluster})


def read_mark(text: str | None) -> Mark | None:
    """Return the mark, or None for a text that is somebody else's."""
    try:
        mark = json.loads(text or "")
        if mark["owner"] != OWNER or "/" not in mark["tunnel"]:
            return None
        return Mark(str(mark["tunnel"]), str(mark["uid"]), str(mark.get("cluster") or ""))
    except (ValueError, KeyError, TypeError):
        return None
