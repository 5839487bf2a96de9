"""The commands: `serve`, the local forwarder of a Pod, and `listen`, a remote forwarder."""

import argparse
import asyncio
import gc
import resource
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from . import logs, settings_dir
from .clock import Clock
from .lifetime import EndReason
from .local import MAX_STREAMS
from .protocol import method
from .protocol.errors import ProtocolError
from .protocol.secret import Secret
from .protocol.urls import RelayEndpoint
from .renewal import TokenSource
from .serve import ServeOptions, Serving
from .session import Session
from .targets import Network, Target
from .transport import tls_context

ENDED, FAILED, BAD_SETTINGS = 0, 1, 2

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 ended on purpose, 1 failed, 2 bad settings."""
    options = _parser().parse_args(arguments)
    logs.configure(options.log_level)
    _raise_file_limit()
    gc.freeze()  # what is imported is no garbage, and need not be looked at
    if options.command == "serve":
        return uvloop.run(serve(_serve_options(options)))
    return uvloop.run(listen(options))


async def serve(options: ServeOptions) -> int:
    """Run a local forwarder, and leave a termination message however it ends."""
    session = Session(Clock())
    reason, sentence, code = EndReason.FAILED, "The forwarder was cancelled.", FAILED
    try:
        serving = Serving(options, settings_dir.read(options.settings_dir), session)
        reason = await serving.run()
        sentence, code = "", ENDED
    except (ProtocolError, ssl.SSLError) as error:
        sentence, code = str(error), _bad_settings(str(error))
    except OSError as error:  # a port is taken, for example: no bug, so no traceback
        sentence = str(error)
        log.error("forwarder.failed", message=sentence)  # noqa: TRY400
    except Exception as error:
        sentence = _innermost(error)
        log.exception("forwarder.failed", message=sentence)
    finally:
        log.info("forwarder.ended", reason=reason.value, **session.totals())
        try:
            options.termination_log.write_text(
                session.termination_message(reason, sentence), encoding="ascii"
            )
        except OSError as error:
            log.warning("termination_log.unwritten", message=str(error))
    return code


async def listen(options: argparse.Namespace) -> int:
    """Run a remote forwarder until its deadline or a signal."""
    from .remote import RemoteForwarder  # noqa: PLC0415 - `serve` has no use for it, and no memory to spare

    try:
        forwarder = RemoteForwarder(
            endpoint=RelayEndpoint.parse(options.endpoint),
            hybrid_connection=options.hybrid_connection,
            token=_read_token(options.token_file),
            token_source=_token_source(options.token_file),
            targets=dict(_forward(text) for text in options.forward),
            expires_at=options.expires_at and method.parse_time(options.expires_at),
            tls=tls_context(options.ca_file and options.ca_file.read_text(encoding="utf-8")),
        )
    except (ProtocolError, OSError) as error:
        return _bad_settings(str(error))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, forwarder.stop)
    async with forwarder:
        await forwarder.wait_ended()
    return ENDED


def _read_token(path: Path) -> Secret:
    return Secret(path.read_text(encoding="utf-8").strip())


def _token_source(path: Path) -> TokenSource:
    """Return what reads the file again: whoever put the token there may put another one."""

    async def source() -> Secret:
        return await asyncio.to_thread(_read_token, path)

    return source


def _forward(text: str) -> tuple[str, Target]:
    """Read NAME=HOST:PORT, NAME=HOST:PORT/udp or NAME=unix:/PATH. Raises ProtocolError."""
    name, _, address = text.partition("=")
    if name and address.startswith("unix:/"):
        return name, Target(address.removeprefix("unix:"), 0, Network.UNIX)
    address, slash, protocol = address.partition("/")
    if slash and protocol not in ("tcp", "udp"):
        raise ProtocolError(f"{text!r} is of no known protocol.")
    host, _, port = address.rpartition(":")
    if not name or not host or not port.isdecimal():
        raise ProtocolError(f"{text!r} is not of the form NAME=HOST:PORT.")
    return name, Target(host.strip("[]"), int(port), Network(protocol or "tcp"))


def _innermost(error: BaseException) -> str:
    """Return what went wrong first; task groups wrap it once each."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _bad_settings(sentence: str) -> int:
    print(f"tunnel_forwarder: {sentence}", file=sys.stderr)  # noqa: T201 - for whoever started it
    return BAD_SETTINGS


def _raise_file_limit() -> None:
    """Allow as many files as the system lets us: a stream takes two, and 1024 is a usual soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _serve_options(options: argparse.Namespace) -> ServeOptions:
    return ServeOptions(
        settings_dir=options.settings_dir,
        health_port=options.health_port,
        termination_log=options.termination_log,
        grace=options.grace,
        max_streams=options.max_streams,
        max_dials=options.max_dials,
        dial_timeout=options.dial_timeout,
        watch_every=options.watch_seconds,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tunnel_forwarder", description=__doc__)
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING"])
    commands = parser.add_subparsers(dest="command", required=True)
    local = commands.add_parser("serve", help="forward TCP clients to the device's listener")
    local.add_argument("--settings-dir", type=Path, default=Path("/etc/tunnel"))
    local.add_argument("--health-port", type=int, default=10000)
    local.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    local.add_argument("--grace", type=float, default=25.0, help="seconds for streams at SIGTERM")
    local.add_argument("--max-streams", type=int, default=MAX_STREAMS)
    local.add_argument("--max-dials", type=int, default=32, help="rendezvous under way at once")
    local.add_argument("--dial-timeout", type=float, default=20.0, help="seconds")
    local.add_argument("--watch-seconds", type=float, default=settings_dir.WATCH_SECONDS)
    remote = commands.add_parser("listen", help="listen, and forward to targets near here")
    remote.add_argument("--endpoint", required=True, help="sb://NAMESPACE.servicebus.windows.net/")
    remote.add_argument("--hybrid-connection", required=True)
    remote.add_argument("--token-file", type=Path, required=True)
    remote.add_argument("--forward", action="append", required=True, metavar="NAME=HOST:PORT")
    remote.add_argument("--expires-at", help="a time such as 2026-01-31T10:00:00Z")
    remote.add_argument("--ca-file", type=Path, help="authorities to trust besides the system's")
    return parser


if __name__ == "__main__":
    sys.exit(main())
