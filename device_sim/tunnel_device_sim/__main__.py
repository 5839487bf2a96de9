"""The command: be a simulated device until a signal comes."""

import argparse
import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from tunnel_forwarder import logs
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.secret import Secret

from .app import run
from .config import AllowList, DeviceConfig, SampleMode

CONNECTION_STRING_VARIABLE = "IOTHUB_DEVICE_CONNECTION_STRING"
BAD_SETTINGS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return 0, or 2 for settings that can not be used."""
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level)
    try:
        config = make_config(options, os.environ)
        uvloop.run(_run(config))
    except (ProtocolError, ssl.SSLError) as error:
        print(f"tunnel_device_sim: {error}", file=sys.stderr)  # noqa: T201 - for whoever started it
        return BAD_SETTINGS
    return 0


def make_config(options: argparse.Namespace, environment: Mapping[str, str]) -> DeviceConfig:
    """Return what the command line and the environment say. Raises ProtocolError."""
    if options.connection_string_file is not None:
        text = _read(options.connection_string_file).strip()
    else:
        text = environment.get(CONNECTION_STRING_VARIABLE, "")
    if not text:
        raise ProtocolError(
            f"Give --connection-string-file, or set {CONNECTION_STRING_VARIABLE} in the environment."
        )
    config = DeviceConfig(
        connection_string=Secret(text),
        allow=AllowList.parse(options.allow),
        authorities=None if options.ca_file is None else _read(options.ca_file),
        open_method=options.open_method,
        close_method=options.close_method,
        web_port=options.web_port,
        echo_port=options.echo_port,
        telemetry_interval=options.telemetry_interval,
        ready_file=options.ready_file,
        max_tunnels=options.max_tunnels,
        sample=SampleMode.from_environment(environment),
    )
    if not config.device_id:
        raise ProtocolError("The connection string's DeviceId is empty.")
    return config


async def _run(config: DeviceConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(config, stop)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ProtocolError(f"{path} can not be read: {error.strerror}.") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tunnel_device_sim", description=__doc__)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING"])
    parser.add_argument("--connection-string-file", type=Path)
    parser.add_argument("--allow", action="append", default=[], metavar="HOST:PORT")
    parser.add_argument("--ca-file", type=Path, help="authorities to trust besides the system's")
    parser.add_argument("--web-port", type=int, default=8080)
    parser.add_argument("--echo-port", type=int, default=7007)
    parser.add_argument("--telemetry-interval", type=float, default=1.0, help="seconds")
    parser.add_argument("--open-method", default="CreateConnection")
    parser.add_argument("--close-method", default="DeleteConnection")
    parser.add_argument("--max-tunnels", type=int, default=8)
    parser.add_argument("--ready-file", type=Path, help="written once connected and subscribed")
    return parser


if __name__ == "__main__":
    sys.exit(main())
