from pathlib import Path

import pytest
import yaml

from support.tunnels import a_tunnel
from tunnel_operator.core.notices import transitions

CRD = yaml.safe_load((Path(__file__).parents[3] / "crds/tunnels.yaml").read_text())
[VERSION] = CRD["spec"]["versions"]
FRESH = a_tunnel(status=VERSION["schema"]["openAPIV3Schema"]["properties"]["status"]["default"])


def status(reason, message=""):
    """Return the status of a Tunnel of which Ready says this."""
    ready = {
        "type": "Ready",
        "status": "True" if reason == "Open" else "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }
    return a_tunnel(status={"conditions": [ready]}).status


AT_REST = [a_tunnel().status, FRESH.status, *map(status, ("Expired", "Idle", "Suspended"))]


def told(before, after):
    return [notice.reason for notice in transitions(before, after)]


@pytest.mark.parametrize("before", AT_REST)
def test_that_an_opening_begins_is_not_told_but_what_comes_of_it(before):
    assert told(before, status("Opening")) == []
    for reason in ("Starting", "Open", "DeviceOffline"):
        assert told(before, status(reason)) == [reason]
        assert told(status("Opening"), status(reason)) == [reason]


@pytest.mark.parametrize("reason", ["Open", "TooManyTunnels", "DeviceOffline", "ClassNotFound"])
def test_that_it_is_opened_once_more_or_at_last_is_told(reason):
    assert told(status(reason), status("Opening")) == ["Opening"]


def test_other_words_for_the_same_reason_are_no_transition():
    assert told(status("Opening", "1 ahead"), status("Opening", "2 ahead")) == []
