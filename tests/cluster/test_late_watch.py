"""What people do while the watches bring nothing, as behind a firewall that has forgotten the connections."""

from datetime import datetime

import pytest

from support.kubectl import eventually
from support.wire import lead_through


@pytest.fixture
def service_account_kubeconfig(service_account_kubeconfig, to_api):
    lead_through(to_api, service_account_kubeconfig)
    return service_account_kubeconfig


def expiry(stage):
    return datetime.fromisoformat(stage.tunnel()["status"]["expiresAt"])


def told(stage):
    return {event["reason"] for event in stage.kubectl.items("events", "-n", stage.namespace)}


@pytest.mark.timeout(120)
async def test_a_tunnel_is_not_ended_that_was_extended_while_no_watch_brought_it(stage, to_api):
    await stage.open(ttl="30s")
    # Told after the status is written: the silence must not swallow it.
    await eventually(lambda: "Open" in told(stage), within=10)
    first = expiry(stage)
    to_api.silence()
    stage.apply(ttl="10m")
    await eventually(lambda: expiry(stage) > first, within=60)
    # What has ended is told of before anything is opened again. Device and forwarder end by themselves.
    assert "Expired" not in told(stage)
