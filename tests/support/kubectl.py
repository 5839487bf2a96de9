"""kubectl, as people use it."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunnel_dev.apiserver import ApiServer

ROOT = Path(__file__).parents[2]


class KubectlError(AssertionError):
    """kubectl said no; the text is what it said."""


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl against one cluster."""

    program: Path
    kubeconfig: Path

    def __call__(self, *arguments: str, stdin: str | None = None, within: float = 60) -> str:
        """Return what it printed. Raises KubectlError."""
        done = subprocess.run(
            [str(self.program), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(done.stderr)
        return done.stdout

    def apply(self, body: dict[str, Any], *options: str) -> None:
        """Apply one object."""
        self("apply", "-f", "-", *options, stdin=json.dumps(body))

    def get(self, *what: str) -> dict[str, Any] | None:
        """Return one object; None when there is none."""
        text = self("get", *what, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text else None

    def items(self, *what: str) -> list[dict[str, Any]]:
        """Return the objects of a list."""
        listed: dict[str, Any] = json.loads(self("get", *what, "-o", "json"))
        return list(listed["items"])


def install(server: ApiServer) -> Kubectl:
    """Install the operator's manifests; its process is each test's own matter."""
    kubectl = Kubectl(server.kubectl, server.kubeconfig)
    kubectl("apply", "-k", str(ROOT / "manifests/base"))
    for name in ("tunnels", "tunnelclasses"):
        kubectl("wait", "--for=condition=Established", f"crd/{name}.tunnels.dev")
    return kubectl


def condition(body: dict[str, Any] | None, kind: str = "Ready") -> dict[str, Any]:
    """Return one condition of an object; empty when it is not there."""
    conditions = ((body or {}).get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), {})


async def eventually(
    check: Callable[[], Any], *, within: float = 30.0, explain: Callable[[], str] | None = None
) -> Any:
    """Return what the check returns once it is true, asking in a thread; fail after the deadline."""
    deadline = time.monotonic() + within
    while True:
        result = await asyncio.to_thread(check)
        if result:
            return result
        if time.monotonic() > deadline:
            text = await asyncio.to_thread(explain) if explain else ""
            raise AssertionError(f"not so after {within} s: {text}")
        await asyncio.sleep(0.1)
