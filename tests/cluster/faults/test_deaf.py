"""A standby that hears nothing is restarted by its liveness probe, once, and is of use when it hears again."""

import urllib.error
import urllib.request

import pytest

from support.kubectl import eventually
from support.kubelet import FAILURES, PERIOD
from support.processes import health_port
from support.wire import State
from tunnel_operator.runtime.watches import LONGEST_SILENCE

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

STOPPING = 60


@pytest.fixture(autouse=True)
def only_when_time_does_not_matter(request):
    if not request.config.getoption("--long"):
        pytest.skip("takes six minutes: it is for --long")


def ask(stage, path):
    port = health_port(stage.operator)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def hears(stage):
    return 'watch_silence_seconds{namespace="' in ask(stage, "/metrics")[1]


@pytest.fixture
def another_leads(kubectl, namespace):
    """Have the Lease held by one who never gives it back, as far as this test goes."""
    spec = {"holderIdentity": "another", "leaseDurationSeconds": 3600}
    metadata = {"name": namespace, "namespace": "tunnels-system"}
    kubectl.apply(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec,
        }
    )


@pytest.mark.usefixtures("another_leads")
async def test_a_deaf_standby_is_restarted_once(stage, to_api, kubelet):
    await eventually(lambda: hears(stage))
    assert ask(stage, "/livez") == (200, "ok\n")
    await to_api.be(State.SWALLOWING)
    bound = LONGEST_SILENCE.total_seconds() + FAILURES * PERIOD + STOPPING
    await eventually(lambda: kubelet.ends, within=bound)
    assert kubelet.ends == ["not alive"]
    assert "nothing has come from the watch of " in stage.operator.output
    # What has begun anew waits for the API server, and that is not held against it.
    await eventually(lambda: ask(stage, "/livez") == (200, "ok\n"))
    assert not hears(stage)
    await to_api.be(State.WHOLE)
    await eventually(lambda: hears(stage))
    assert ask(stage, "/readyz") == (200, "ok\n")
    assert kubelet.ends == ["not alive"]
    assert "leader.elected" not in stage.operator.output
