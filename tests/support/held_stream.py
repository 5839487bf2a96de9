"""A client Pod that holds one TCP stream to an echo, and says a line over it five times a second until it is deleted."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from support.kubectl import Kubectl
from tunnel_dev import client_pod

NAME = "held-stream"
SCRIPT = """
import itertools, sys

with dial(*sys.argv[1:3]) as stream:
    for number in itertools.count(1):
        line = f"line {number} of one stream\\n".encode()
        stream.sendall(line)
        heard = b""
        while len(heard) < len(line):
            part = stream.recv(65536)
            if not part:
                sys.exit(f"The stream was ended in line {number}.")
            heard += part
        if heard != line:
            sys.exit(f"Line {number} came back as {heard!r}.")
        print(number, flush=True)
        time.sleep(0.2)
"""


@dataclass(frozen=True, slots=True)
class HeldStream:
    """One stream. The Pod is never started again, so that a stream that broke stays broken."""

    kubectl: Kubectl
    namespace: str

    def exchanges(self) -> int:
        """Return how many lines have come back so far. Fails once the stream is broken."""
        pod = self.kubectl.get("pod", NAME, "-n", self.namespace)
        log = self.kubectl("logs", NAME, "-n", self.namespace)
        assert pod is not None
        assert pod["status"]["phase"] == "Running", log
        return len(log.splitlines())


@contextlib.contextmanager
def held_stream(kubectl: Kubectl, namespace: str, image: str, address: str) -> Iterator[HeldStream]:
    """Hold a stream to an address, as host:port, while inside."""
    where = address.rsplit(":", 1)
    kubectl.apply(client_pod.manifest(NAME, namespace, image, SCRIPT, *where))
    try:
        ready = ("--for=condition=Ready", f"pod/{NAME}", "-n", namespace, "--timeout=60s")
        kubectl("wait", *ready, within=70)
        yield HeldStream(kubectl, namespace)
    finally:
        kubectl("delete", "pod", NAME, "-n", namespace, "--wait=false")
