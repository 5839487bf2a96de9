"""A client inside the cluster: what it gets of a tunnel, it gets through the Service as any Pod would."""

import json
from typing import Any

from .errors import DevError
from .stage import Stage

DIAL = """
import socket, time

def dial(host, port):
    # A Service leads nowhere until each node has been told of its Pod, a moment after that is ready.
    deadline = time.monotonic() + 15
    while True:
        try:
            return socket.create_connection((host, int(port)), timeout=20)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
"""
"""What each script in a client Pod begins with."""

SCRIPT = """
import json, sys, urllib.request
host, web, raw, said = sys.argv[1:5]
dial(host, web).close()
page = urllib.request.urlopen(f"http://{host}:{web}/", timeout=20).read().decode()
with dial(host, raw) as stream:
    stream.sendall(said.encode())
    # The client has nothing more to say, and still gets the answer: half-close.
    stream.shutdown(socket.SHUT_WR)
    heard = b""
    while part := stream.recv(65536):
        heard += part
print(json.dumps({"page": page, "heard": heard.decode()}))
"""


def manifest(name: str, namespace: str, image: str, script: str, *arguments: str) -> dict[str, Any]:
    """Return a Pod that runs a script once. Any image with our Python would do; a node of ours has the forwarder's."""
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/python", "-c", DIAL + script, *arguments],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


def visit(
    stage: Stage, namespace: str, host: str, *, ports: tuple[int, int], words: str
) -> tuple[str, str]:
    """Return the page of the first port, and what the second, a raw one, answered to the words."""
    name = f"client-{host.partition('.')[0]}"
    stage.kubectl("delete", "pod", name, "-n", namespace, "--ignore-not-found", "--wait")
    arguments = (host, *map(str, ports), words)
    pod = manifest(name, namespace, stage.forwarder_image, SCRIPT, *arguments)
    stage.apply(pod)
    where = ("-n", namespace)
    try:
        done = "--for=jsonpath={.status.containerStatuses[0].state.terminated}"
        stage.kubectl("wait", done, f"pod/{name}", *where, "--timeout=60s")
        log = stage.kubectl("logs", name, *where)
        answer = json.loads(log.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise DevError(f"The client Pod got nothing through the tunnel:\n{log}") from None
    finally:
        stage.kubectl("delete", "pod", name, *where, "--wait=false", "--ignore-not-found")
    return str(answer["page"]), str(answer["heard"])
