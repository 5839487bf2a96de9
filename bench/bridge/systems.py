"""The systems that are compared: each leads from a port of its own to the target, over two legs.

The first leg is from whoever uses the tunnel to whatever stands in the middle, the second from there to
the device. A system without a middle has both legs one after the other.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tunnel_forwarder.protocol.settings import ForwarderSettings, ListenPort
from tunnel_forwarder.protocol.urls import RelayEndpoint

from .client import HOSTS
from .legs import Legs
from .processes import Programs, free_port, wait_for_port

ADDRESS = f"127.0.{os.getpid() % 200 + 50}.61"
"""Of this run alone, as the port of the simulation's MQTT can not be chosen."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a system is to be built up."""

    folder: Path
    target: int
    legs: Legs
    tools: Path
    python: Path
    times: dict[str, float] = field(default_factory=dict)
    """When the forwarder was started, and when it was ready."""

    @property
    def forwarder(self) -> tuple[list[str | Path], dict[str, str]]:
        """The forwarder's command and environment: the packages of its image, compiled as there."""
        command = [self.python, "-m", "tunnel_forwarder", "--log-level", "WARNING"]
        return command, {
            "PYTHONPATH": str(Path(__file__).parents[2] / "forwarder-image"),
            "PYTHONOPTIMIZE": "2",
            "PYTHONNODEBUGRANGES": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.folder.parent / "compiled"),
            # Debian's OpenSSL has a directory of authorities, to be looked up in, and no file to be read.
            "SSL_CERT_FILE": "",
        }

    def compile_forwarder(self) -> None:
        """Compile all that both ends import, so that none does when it is measured."""
        _, env = self.forwarder
        code = "import tunnel_forwarder.__main__, tunnel_forwarder.remote"
        subprocess.run([str(self.python), "-c", code], env={**os.environ, **env}, check=True)


@dataclass(frozen=True, slots=True)
class System:
    """A way to the target that stands."""

    name: str
    port: int
    programs: Programs
    secured: str


Build = Callable[[Place, Programs], tuple[int, str]]


def direct(place: Place, _programs: Programs) -> tuple[int, str]:
    """Both legs, and nothing else."""
    return place.legs.to(place.legs.to(place.target)), "nothing"


def ours(*, warm: int, mux: bool) -> Build:
    """Both forwarders over the simulated Azure."""

    def build(place: Place, programs: Programs) -> tuple[int, str]:
        folder = place.folder
        facts = _relay_and_device(place, programs)
        port, health = free_port(), free_port()
        near = RelayEndpoint(ADDRESS, place.legs.to(facts["port"], ADDRESS))
        settings = ForwarderSettings(
            tunnel="bench/bench",
            correlation_id="bench",
            endpoint=near,
            hybrid_connection="hc",
            ports=(ListenPort("bench", port),),
            expires_at=datetime.now(UTC) + timedelta(hours=6),
            idle_seconds=0,
            warm_connections=warm,
            mux=mux,
        )
        mounted = folder / "settings"
        mounted.mkdir()
        (mounted / "settings.json").write_text(settings.to_json())
        (mounted / "token").write_text(facts["token"])
        shutil.copy(facts["ca"], mounted / "ca.crt")
        command, env = place.forwarder
        place.times["start"] = time.perf_counter()
        programs.start(
            "forwarder",
            [*command, "serve", "--settings-dir", mounted, "--health-port", str(health),
             "--termination-log", folder / "end"],
            env,
        )  # fmt: skip
        _wait_ready(health)
        place.times["ready"] = time.perf_counter()
        return port, "TLS on both legs"

    return build


def azbridge(place: Place, programs: Programs) -> tuple[int, str]:
    """Take clients as azbridge does, with our device and the simulated Azure, as azbridge itself can not run here."""
    facts = _relay_and_device(place, programs)
    port, token = free_port(), place.folder / "send-token"
    token.write_text(str(facts["token"]))
    near = f"{ADDRESS}:{place.legs.to(facts['port'], ADDRESS)}"
    root = Path(__file__).parents[2]
    env = {"PYTHONPATH": f"{root / 'bench'}:{root / 'tests'}"}
    programs.start(
        "azbridge",
        [sys.executable, "-m", "bridge.azbridge", str(port), near, facts["ca"], token],
        env,
    )
    wait_for_port(port)
    return port, "TLS on both legs"


def _relay_and_device(place: Place, programs: Programs) -> dict[str, Any]:
    place.folder.mkdir(parents=True)
    env = {"PYTHONPATH": str(Path(__file__).parent.parent)}
    programs.start("relay", [sys.executable, "-m", "bridge.relay", place.folder, ADDRESS], env)
    facts = _wait_for_json(place.folder / "bench.json")
    _device(place, programs, facts)
    return facts


def _device(place: Place, programs: Programs, facts: dict[str, Any]) -> None:
    token = place.folder / "listen-token"
    token.write_text(str(facts["token"]))
    port, host = int(str(facts["port"])), ADDRESS
    if place.legs.milliseconds is not None:
        # The relay names itself by its own port when it calls the device to a rendezvous. So the delayed leg
        # has that port, too, at another of the relay's names; else only the control channel went over it.
        host = "localhost"
        place.legs.to(port, ADDRESS, listen=("127.0.0.1", port))
    command, env = place.forwarder
    programs.start(
        "device",
        [*command, "listen", "--endpoint", f"sb://{host}:{port}/", "--hybrid-connection", "hc",
         "--token-file", token, "--ca-file", str(facts["ca"]),
         "--forward", f"bench=127.0.0.1:{place.target}"],
        env,
    )  # fmt: skip


def ssh_reverse(place: Place, programs: Programs) -> tuple[int, str]:
    """Run `ssh -R`: the device dials a server, where clients connect."""
    folder = place.folder
    folder.mkdir(parents=True)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
            check=True,
        )
    shutil.copy(folder / "user.pub", folder / "authorized")
    Path("/run/sshd").mkdir(exist_ok=True)
    port, exposed = free_port(), free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin yes\nMaxSessions 1000\n"
    )
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    programs.start("sshd", [sshd, "-D", "-e", "-f", folder / "sshd_config"])
    wait_for_port(port)
    programs.start(
        "ssh",
        ["ssh", "-N", "-F", "none", "-i", folder / "user", "-p", str(place.legs.to(port)),
         "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
         "-o", "ExitOnForwardFailure=yes",
         "-R", f"127.0.0.1:{exposed}:127.0.0.1:{place.target}", "127.0.0.1"],
    )  # fmt: skip
    wait_for_port(exposed)
    return place.legs.to(exposed), "SSH on the second leg"


def socat_tls(place: Place, programs: Programs) -> tuple[int, str]:
    """Two socats with TLS between them; no middle, and the device must be reachable."""
    pem = _certificate(place.folder)
    inner, outer = free_port(), free_port()
    listen = "bind=127.0.0.1,reuseaddr,fork,backlog=512"
    programs.start(
        "socat-device",
        ["socat", f"OPENSSL-LISTEN:{inner},{listen},cert={pem},verify=0", f"TCP:127.0.0.1:{place.target},nodelay"],
    )  # fmt: skip
    wait_for_port(inner)
    far = place.legs.to(place.legs.to(inner))
    programs.start(
        "socat-local",
        ["socat", f"TCP-LISTEN:{outer},{listen},nodelay",
         f"OPENSSL:127.0.0.1:{far},verify=0,nodelay"],
    )  # fmt: skip
    wait_for_port(outer)
    return outer, "TLS over both legs at once"


def stunnel(place: Place, programs: Programs) -> tuple[int, str]:
    """Two stunnels; no middle, and the device must be reachable."""
    pem = _certificate(place.folder)
    inner, outer = free_port(), free_port()
    for role, accept, connect in (("device", inner, place.target), ("local", outer, None)):
        to = connect or place.legs.to(place.legs.to(inner))
        (place.folder / f"{role}.conf").write_text(
            "foreground = yes\npid =\ndebug = 3\nsocket = l:TCP_NODELAY=1\n"
            "socket = r:TCP_NODELAY=1\n"
            f"[bench]\nclient = {'no' if connect else 'yes'}\naccept = 127.0.0.1:{accept}\n"
            f"connect = 127.0.0.1:{to}\n" + (f"cert = {pem}\n" if connect else "")
        )
        programs.start(f"stunnel-{role}", ["stunnel", place.folder / f"{role}.conf"])
        wait_for_port(accept)
    return outer, "TLS over both legs at once"


def rathole(place: Place, programs: Programs) -> tuple[int, str]:
    """Rathole with its Noise transport: the device dials a server, where clients connect."""
    place.folder.mkdir(parents=True)
    program = place.tools / "rathole"
    keys = subprocess.run(
        [str(program), "--genkey"], check=True, capture_output=True, text=True
    ).stdout.split()
    private, public = keys[2], keys[-1]
    port, exposed = free_port(), free_port()
    (place.folder / "server.toml").write_text(
        f'[server]\nbind_addr = "127.0.0.1:{port}"\ndefault_token = "t"\n'
        f'[server.transport]\ntype = "noise"\n[server.transport.noise]\n'
        f'local_private_key = "{private}"\n'
        f'[server.services.bench]\nbind_addr = "127.0.0.1:{exposed}"\n'
    )
    programs.start("rathole-server", [program, "--server", place.folder / "server.toml"])
    wait_for_port(port)
    (place.folder / "client.toml").write_text(
        f'[client]\nremote_addr = "127.0.0.1:{place.legs.to(port)}"\ndefault_token = "t"\n'
        f'[client.transport]\ntype = "noise"\n[client.transport.noise]\n'
        f'remote_public_key = "{public}"\n'
        f'[client.services.bench]\nlocal_addr = "127.0.0.1:{place.target}"\n'
    )
    programs.start("rathole-device", [program, "--client", place.folder / "client.toml"])
    wait_for_port(exposed)
    return place.legs.to(exposed), "Noise on the second leg"


def bore(place: Place, programs: Programs) -> tuple[int, str]:
    """Bore: the device dials a server, where clients connect. Nothing is encrypted."""
    place.folder.mkdir(parents=True)
    server, delayed, exposed = "127.0.0.62", "127.0.0.63", free_port()
    program = place.tools / "bore"
    programs.start("bore-server", [program, "server", "--bind-addr", server])
    wait_for_port(7835, server)
    to = server
    if place.legs.milliseconds is not None:  # the port of its control channel is built in
        place.legs.to(7835, server, listen=(delayed, 7835))
        to = delayed
    programs.start(
        "bore-device",
        [program, "local", str(place.target), "--to", to, "--port", str(exposed)],
    )
    wait_for_port(exposed, server)
    local = place.legs.to(exposed, server)
    HOSTS[local] = server
    return local, "nothing"


SYSTEMS: dict[str, Build] = {
    "direct": direct,
    "ours, warm": ours(warm=8, mux=False),
    "ours, cold": ours(warm=0, mux=False),
    "ours, multiplexed": ours(warm=0, mux=True),
    "azbridge's sequence": azbridge,
    "ssh -R": ssh_reverse,
    "socat TLS": socat_tls,
    "stunnel": stunnel,
    "rathole": rathole,
    "bore": bore,
}


@contextlib.contextmanager
def standing(name: str, place: Place) -> Iterator[System]:
    """Build a system, give it, take it down."""
    place.compile_forwarder()
    programs = Programs(place.folder)
    try:
        port, secured = SYSTEMS[name](place, programs)
        yield System(name, port, programs, secured)
    finally:
        programs.stop()


def _certificate(folder: Path) -> Path:
    folder.mkdir(parents=True)
    pem = folder / "pair.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", "/CN=bench", "-keyout", str(folder / "key"),
         "-out", str(folder / "cert")],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_text((folder / "key").read_text() + (folder / "cert").read_text())
    os.chmod(pem, 0o600)  # noqa: PTH101
    return pem


def _wait_for_json(path: Path, within: float = 30.0) -> dict[str, Any]:
    end = time.monotonic() + within
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} does not come.")
        time.sleep(0.05)
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def _wait_ready(port: int, within: float = 30.0) -> None:
    end = time.monotonic() + within
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).read()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
