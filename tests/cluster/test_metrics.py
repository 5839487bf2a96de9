"""What Prometheus is told by the operator as it runs."""

import asyncio
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from support.kubectl import eventually
from support.processes import health_port


async def test_a_tunnels_life_can_be_read_from_the_metrics(stage):
    await stage.device.start()
    await stage.operator.start()
    port = await eventually(lambda: health_port(stage.operator))

    def read():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return [s for family in text_string_to_metric_families(text) for s in family.samples]

    def value(samples, metric, /, **wanted):
        found = [
            s.value for s in samples if s.name == metric and wanted.items() <= s.labels.items()
        ]
        return sum(found) if found else None

    stage.apply()
    await stage.until_ready_is("True", "Open")
    which = {"namespace": stage.namespace, "name": "mri-7"}
    # The status is written a moment before it is recorded.
    ready = which | {"type": "Ready", "status": "True"}
    await eventually(lambda: value(read(), "tunnel_condition", **ready) == 1)
    samples = await asyncio.to_thread(read)
    assert value(samples, "tunnel_ready_reason", **which, reason="Open") == 1
    assert 3000 < value(samples, "tunnel_seconds_to_expiry", **which) <= 3600
    assert value(samples, "tunnel_set_up_seconds_count", hop="Ready") == 1
    assert value(samples, "tunnel_operator_azure_calls_total", service="arm", code="ok") > 0
    opened = {"service": "iothub", "verb": "open", "code": "ok"}
    assert value(samples, "tunnel_operator_azure_calls_total", **opened) == 1
    # Whatever else is watched: routes, where the cluster serves them.
    watched = "tunnels", "pods", "secrets", "services", "ingresses", "networkpolicies"
    for resource in watched:
        which_watch = {"resource": resource, "namespace": stage.namespace}
        silence = value(samples, "tunnel_operator_watch_silence_seconds", **which_watch)
        assert 0 <= silence < 80, resource

    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await stage.until_gone()
    await eventually(lambda: value(read(), "tunnel_condition", **which) is None)
