"""A real API server and its etcd alone, on loopback, for tests: no node, no controllers.

Its features are the development cluster's: RBAC, admission, service account tokens. Nothing of a
running cluster is touched, and root is not needed.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from . import components, kubeconfig, pki, toolchain
from .api import Api
from .command import tied_to_us
from .components import Endpoint
from .process import Service

LOOPBACK = "127.0.0.1"
PATIENCE_S = 60

_CONTROLLERS = ("kube-controller-manager",)


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where it is, and who may do anything there."""

    url: str
    kubeconfig: Path
    ca: Path
    certificate: Path
    key: Path
    kubectl: Path
    log: Path
    audit: Path
    etcd: Service
    process: Service
    is_ready: Callable[[], bool]

    def restart(self) -> None:
        """End it at once and start it again, over the same etcd; return once it is ready."""
        self.process.stop(grace_s=0)
        self.process.start()
        self.process.wait_until_ready(self.is_ready, seconds=PATIENCE_S)


# Who asked for what; nothing of what was in it.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  userGroups: ["system:masters", "system:nodes"]
- level: None
  users: ["system:apiserver"]
- level: Metadata
"""


def build() -> None:
    """Build what the first run would have to, in some minutes: a test's time limit is no place for that."""
    _programs()
    toolchain.ensure(_CONTROLLERS)


@contextmanager
def running() -> Iterator[ApiServer]:
    """Start both in a folder of their own, and leave nothing behind.

    `KUBEBUILDER_ASSETS` names a folder of other builds of the programs, as it does for envtest.
    """
    programs = _programs()
    with TemporaryDirectory(prefix="edge-tunnels-") as folder, ExitStack() as cleanup:
        tree = Path(folder)
        identities = (pki.api_server_identity(LOOPBACK), pki.ADMIN)
        keys = pki.ensure(tree / "pki", identities)
        at = Endpoint(LOOPBACK, *_free_ports(3))
        etcd = _service(tree, programs, components.etcd(tree / "etcd", at))
        # The Service `kubernetes` can't lead to loopback, so it gets no endpoints.
        alone = "--endpoint-reconciler-type=none"
        audit = tree / "audit.log"
        policy = tree / "audit-policy.yaml"
        policy.write_text(_AUDIT_POLICY)
        audited = (f"--audit-policy-file={policy}", f"--audit-log-path={audit}")
        argv = [*components.kube_apiserver(keys, at), alone, *audited]
        server = _service(tree, programs, argv)
        for service in (etcd, server):
            # Nothing is kept: there is no point in waiting for a graceful end.
            cleanup.callback(service.stop, grace_s=0)
            service.start()
        api = Api(LOOPBACK, at.port, keys)
        server.wait_until_ready(api.is_ready, seconds=PATIENCE_S)
        url = f"https://{LOOPBACK}:{at.port}"
        config = tree / "kubeconfig"
        kubeconfig.write(config, server=url, pki=keys, identity=pki.ADMIN.file)
        yield ApiServer(
            url=url,
            kubeconfig=config,
            ca=keys.ca,
            certificate=keys.certificate(pki.ADMIN.file),
            key=keys.key(pki.ADMIN.file),
            kubectl=programs / "kubectl",
            log=server.log,
            audit=audit,
            etcd=etcd,
            process=server,
            is_ready=api.is_ready,
        )


@contextmanager
def controllers(server: ApiServer, *names: str) -> Iterator[None]:
    """Run some of Kubernetes' own controllers for it, as a real cluster has them."""
    programs = toolchain.ensure(_CONTROLLERS)
    with TemporaryDirectory(prefix="edge-tunnels-") as folder:
        argv = components.some_controllers(server.kubeconfig, names)
        service = _service(Path(folder), programs, argv)
        service.start()
        try:
            yield
        finally:
            service.stop(grace_s=0)


def _programs() -> Path:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(assets) if assets else toolchain.ensure(toolchain.API_SERVER)


def _service(tree: Path, programs: Path, argv: list[str]) -> Service:
    """Describe one of the two; it dies with the test run, also when that is killed."""
    name, *arguments = argv
    command = (*tied_to_us(), str(programs / name), *arguments)
    return Service(tree=tree, name=name, argv=command)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, all different."""
    with ExitStack() as held:
        listeners = [held.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind((LOOPBACK, 0))
        return [listener.getsockname()[1] for listener in listeners]
