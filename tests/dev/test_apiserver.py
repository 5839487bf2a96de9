import json
import subprocess

import pytest

from tunnel_dev import apiserver

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def server():
    with apiserver.running() as running:
        yield running


def kubectl(server, *arguments):
    command = [server.kubectl, "--kubeconfig", server.kubeconfig, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_the_release_that_is_pinned(server):
    version = json.loads(kubectl(server, "version", "--output=json").stdout)

    assert version["serverVersion"]["gitVersion"] == version["clientVersion"]["gitVersion"]


def test_rights_are_enforced(server):
    assert kubectl(server, "auth", "can-i", "*", "*").stdout == "yes\n"
    assert kubectl(server, "auth", "can-i", "list", "pods", "--as=nobody").stdout == "no\n"


def test_a_service_account_gets_a_token_for_the_audience_asked_for(server):
    assert kubectl(server, "create", "serviceaccount", "asking").returncode == 0

    token = kubectl(server, "create", "token", "asking", "--audience=api://them").stdout.strip()

    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "metadata": {"name": "review"},
        "spec": {"token": token, "audiences": ["api://them"]},
    }
    answer = subprocess.run(
        [
            *(server.kubectl, "--kubeconfig", server.kubeconfig),
            *("create", "--filename", "-", "--output=json"),
        ],
        input=json.dumps(review),
        capture_output=True,
        text=True,
        check=True,
    )
    status = json.loads(answer.stdout)["status"]
    assert status["authenticated"]
    assert status["user"]["username"] == "system:serviceaccount:default:asking"
