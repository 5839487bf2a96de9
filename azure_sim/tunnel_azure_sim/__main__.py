"""`python -m tunnel_azure_sim`: one process that is all of Azure that a tunnel needs."""

import argparse
import asyncio
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from . import logs, remote
from .app import AzureSim
from .config import (
    ARM_PORT,
    CLIENT_ID,
    HUB_PORT,
    IDENTITY_PORT,
    MQTT_PORT,
    RELAY_PORT,
    RESOURCE_GROUP,
    SUBSCRIPTION_ID,
    TENANT_ID,
    HubConfig,
    NamespaceConfig,
    SimConfig,
)
from .environment import read_environment
from .errors import ConfigError, SimError
from .hub.limits import TIERS

STOP_SECONDS = 4.5
"""After this the process ends whatever still runs: a stop takes less than 5 s."""

_log = structlog.get_logger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT, or carry out a command; return the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in remote.COMMANDS:
        return remote.main(words)
    logs.configure()
    _raise_file_limit()
    try:
        given = _parser().parse_args(words)
        if given.print_environment:
            sys.stdout.write(read_environment(given.state_dir))
            return 0
        config = _config(given)
        uvloop.run(_run(config))
    except SimError as error:
        if "--print-environment" in words:
            sys.stderr.write(f"{error}\n")
        else:
            _log.error("sim.failed", reason=str(error))
        return 2
    except TimeoutError:
        _log.warning("sim.stop_overdue", seconds=STOP_SECONDS)
        return 1
    except OSError as error:
        _log.error("sim.failed", reason=f"{error.strerror or error}")
        return 2
    return 0


def _own_address() -> str:
    """Return the address of this host's name, which in a container is the container's."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        raise ConfigError("This host's name has no address; give one with --address.") from None


def _raise_file_limit() -> None:
    """Allow as many sockets as the system lets us: a stream takes two, and 1024 is a usual soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: SimConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.timeout(None) as deadline, AzureSim(config):
        await stop.wait()
        deadline.reschedule(loop.time() + STOP_SECONDS)
    _log.info("sim.stopped")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tunnel_azure_sim",
        description="A simulated Azure: Relay, its ARM API, IoT Hub and a token endpoint.",
        epilog=f"With {', '.join(remote.COMMANDS)} in place of options: commands to one that runs.",
    )
    add = parser.add_argument
    add(
        "--address",
        default="127.0.0.1",
        help="the address to listen on, which clients dial; 'own' for that of this host's name",
    )
    add(
        "--state-dir",
        type=Path,
        required=True,
        help="holds the authority, the keys, endpoints.json",
    )
    add(
        "--state",
        choices=("memory", "file"),
        default="memory",
        help="file: what clients make outlives a restart, in the state directory",
    )
    add(
        "--print-environment",
        action="store_true",
        help="start nothing: print shell exports for the simulation of this state directory",
    )
    add(
        "--admin-port",
        type=int,
        metavar="PORT",
        help="serve faults, views and reset, by plain HTTP",
    )
    add("--seed", type=int, help="makes chance repeatable: listeners, delays")
    _add_azure_options(parser)
    return parser


def _add_azure_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--device", action="append", default=[], metavar="ID", help="a device that each hub knows")
    add("--relay-namespace", action="append", default=[], metavar="NAME", help="default: demo")
    add("--hub", action="append", default=[], metavar="NAME", help="default: demo-hub")
    add("--hub-tier", default="S3", choices=TIERS, help="limits the hubs as in Azure")
    add("--hub-units", type=int, default=1, metavar="N")
    add(
        "--hub-authority",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a certificate authority, in PEM, whose signatures let devices in",
    )
    add("--hub-daily-messages", type=int, metavar="N", help="in place of the tier's own quota")
    add("--dns-name", action="append", default=[], metavar="NAME", help="a further name of ours")
    add("--tenant", default=TENANT_ID, metavar="ID")
    add("--client-id", default=CLIENT_ID, metavar="ID", help="the one application")
    add("--subscription", default=SUBSCRIPTION_ID, metavar="ID")
    add("--resource-group", default=RESOURCE_GROUP, metavar="NAME")
    add("--assertion-jwks", type=Path, metavar="FILE", help="keys that sign workloads' assertions")
    add("--arm-throttling", action="store_true", help="429 beyond ARM's documented rates")
    for plane, port, what in (
        ("identity", IDENTITY_PORT, "the token endpoint's port"),
        ("arm", ARM_PORT, "ARM's port"),
        ("relay", RELAY_PORT, "the first namespace's port; others get free ones"),
        ("hub", HUB_PORT, "the first hub's REST port; others get free ones"),
        ("mqtt", MQTT_PORT, "the port of all hubs' MQTT; azure-iot-device dials 8883 alone"),
    ):
        add(f"--{plane}-port", type=int, default=port, metavar="PORT", help=what)


def _config(given: argparse.Namespace) -> SimConfig:
    namespaces = given.relay_namespace or ["demo"]
    hubs = given.hub or ["demo-hub"]
    devices = tuple(given.device)
    return SimConfig(
        address=_own_address() if given.address == "own" else given.address,
        state_dir=given.state_dir,
        relay_namespaces=tuple(
            NamespaceConfig(name, given.relay_port if index == 0 else 0)
            for index, name in enumerate(namespaces)
        ),
        hubs=tuple(
            HubConfig(
                name,
                devices,
                given.hub_port if index == 0 else 0,
                tier=given.hub_tier,
                units=given.hub_units,
                daily_messages=given.hub_daily_messages,
                authorities=tuple(given.hub_authority),
            )
            for index, name in enumerate(hubs)
        ),
        dns_names=tuple(given.dns_name),
        tenant_id=given.tenant,
        client_id=given.client_id,
        subscription_id=given.subscription,
        resource_group=given.resource_group,
        identity_port=given.identity_port,
        arm_port=given.arm_port,
        mqtt_port=given.mqtt_port,
        assertion_jwks=given.assertion_jwks,
        keep_state=given.state == "file",
        arm_throttling=given.arm_throttling,
        admin_port=given.admin_port,
        seed=given.seed,
    )


if __name__ == "__main__":
    sys.exit(main())
