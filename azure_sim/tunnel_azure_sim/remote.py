"""The commands that talk to a simulation which runs already: `faults`, `drop`, `show`, `reset`."""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .endpoints import ENDPOINTS_FILE
from .errors import ConfigError
from .wire import KINDS, field_names

COMMANDS = ("faults", "drop", "show", "reset")

_SHOWN = ("hybrid-connections", "devices", "method-calls", "arm-calls", "faults")
_TIMEOUT = 30


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; the answer goes to standard output as JSON."""
    given = _parser().parse_args(arguments)
    try:
        method, path, body = _request(given)
        answer = _call(_admin_url(given), method, path, body)
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tunnel_azure_sim")
    where = argparse.ArgumentParser(add_help=False)
    group = where.add_mutually_exclusive_group(required=True)
    group.add_argument("--admin", metavar="URL", help="the simulation's admin API")
    group.add_argument("--state-dir", type=Path, help="of the simulation: its files name the API")
    commands = parser.add_subparsers(dest="command", required=True)
    faults = commands.add_parser(
        "faults",
        parents=[where],
        help="put a fault in force, list them, or clear them",
        epilog="; ".join(f"{kind}: {' '.join(field_names(made))}" for kind, made in KINDS.items()),
    )
    faults.add_argument("kind", choices=[*KINDS, "list", "clear"])
    drop = commands.add_parser(
        "drop", parents=[where], help="lose sockets, or leave them half open"
    )
    for one in (faults, drop):
        one.add_argument("fields", nargs="*", metavar="NAME=VALUE")
    show = commands.add_parser("show", parents=[where], help="what clients did, and what there is")
    show.add_argument("what", choices=_SHOWN)
    commands.add_parser("reset", parents=[where], help="bring everything back to the start")
    return parser


def _request(given: argparse.Namespace) -> tuple[str, str, dict[str, str] | None]:
    match given.command:
        case "faults" if given.kind == "list":
            return "GET", "/faults", None
        case "faults" if given.kind == "clear":
            return "DELETE", "/faults", None
        case "faults":
            return "POST", "/faults", {"kind": given.kind, **_fields(given.fields)}
        case "drop":
            return "POST", "/drop", _fields(given.fields)
        case "show":
            return "GET", f"/{given.what}", None
        case _:
            return "POST", "/reset", {}


def _fields(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if not all(equals for _, equals, _ in split):
        raise ConfigError("Fields are written as name=value.")
    return {name: value for name, _, value in split}


def _admin_url(given: argparse.Namespace) -> str:
    if given.admin:
        return str(given.admin)
    file = given.state_dir / ENDPOINTS_FILE
    url = json.loads(file.read_text()).get("adminUrl")
    if not isinstance(url, str):
        raise ConfigError("The simulation was started without --admin-port.")
    return url


def _call(base: str, method: str, path: str, body: dict[str, str] | None) -> Any:
    if not base.startswith("http://"):
        raise ConfigError("The admin API's address begins with http://.")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base.rstrip("/") + path, data=data, method=method)  # noqa: S310 - http, as checked
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            raise ConfigError(json.load(error).get("error", str(error))) from None
