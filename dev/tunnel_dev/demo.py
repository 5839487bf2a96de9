"""The whole way of one tunnel, shown: from `kubectl apply` to the page of a device that only dials out."""

import http.client
import time
from pathlib import Path

from . import client_pod, stage
from .console import say, step
from .errors import DevError

NAMESPACE = "imaging"
NAME = "mri-7"
HOST = "mri-7.tunnels.example.com"
EXAMPLE = Path("manifests/examples/tunnel.yaml")

NEXT = """
It is left running. What to try next:
  export KUBECONFIG={kubeconfig}
  {kubectl} get tunnels -A -o wide
  {kubectl} describe tunnel mri-7 -n imaging
  curl -H 'Host: {host}' http://{ingress}/
  {kubectl} patch tunnel mri-7 -n imaging --type merge -p '{{"spec": {{"ttl": "4h"}}}}'
  {kubectl} delete tunnel mri-7 -n imaging
  make down
"""


def run(tree: Path) -> int:
    """Return 0 once the bytes have come through. Raises DevError with what did not."""
    began = time.monotonic()
    running = stage.up(tree)
    with step(f"Starting the device {NAME} behind the hospital's firewall", estimate="2 s"):
        running.start_device(running.device(NAME))
    running.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    with step(f"kubectl apply -f {EXAMPLE}, and waiting for Ready", estimate="5 s"):
        _open_tunnel(running)
    with step("Visiting the device from a Pod, through the Service", estimate="5 s"):
        _visit_by_service(running)
    with step("Visiting the device from outside, through the Ingress"):
        _visit_by_ingress(running)
    say("")
    say(running.kubectl("get", "tunnels", "-A"))
    say(f"The bytes came through. It took {time.monotonic() - began:.0f} s.")
    cluster = running.cluster
    say(
        NEXT.format(
            kubeconfig=cluster.kubeconfig,
            kubectl=cluster.kubectl,
            host=HOST,
            ingress=cluster.ingress_address,
        )
    )
    return 0


def _open_tunnel(running: stage.Stage) -> None:
    where = ("-n", NAMESPACE)
    running.kubectl("apply", "-f", str(running.tree / EXAMPLE))
    try:
        running.kubectl("wait", "--for=condition=Ready", f"tunnel/{NAME}", *where, "--timeout=90s")
    except DevError as error:
        shown = running.kubectl("get", "tunnel", NAME, *where, "-o", "wide")
        raise DevError(f"The tunnel did not become Ready.\n{shown}") from error


def _visit_by_service(running: stage.Stage) -> None:
    words = "a line of raw TCP, and then the end of it"
    page, heard = client_pod.visit(
        running,
        NAMESPACE,
        f"{NAME}.{NAMESPACE}.svc",
        ports=(80, 7),
        words=words,
    )
    if NAME not in page:
        raise DevError(f"The page that came back is not the device's: {page[:200]!r}")
    if heard != words:
        raise DevError(f"The raw port echoed {heard!r} instead of {words!r}.")


def _visit_by_ingress(running: stage.Stage) -> None:
    deadline = time.monotonic() + 30
    while True:
        status, page = fetch(running.cluster.ingress_address, HOST)
        if status == http.client.OK and NAME in page:
            return
        if time.monotonic() > deadline:
            raise DevError(f"The Ingress answered {status}: {page[:200]!r}")
        time.sleep(0.2)


def fetch(address: str, host: str, path: str = "/") -> tuple[int, str]:
    """Return status and body of a GET through the Ingress; status 0 when nothing answers."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()
