"""`python -m tunnel_operator`: runs the operator with the settings of its environment."""

import asyncio
import gc
import sys

import structlog

from .app import run
from .config import Config, ConfigError
from .observability.logs import configure_logging

_COLLECT_AFTER = 10_000, 20, 20
"""How many new objects, and rounds over these, the garbage collector waits for.

Nearly all that a pass makes goes by itself. With Python's 700, 10, 10 a seventh of the processor time of a fleet's
opening was spent on looking for the rest.
"""


def main() -> int:
    """Return the exit code: 0 after a signal, 1 after a failure, 2 for bad settings."""
    try:
        config = Config.from_env()
    except ConfigError as error:
        print(f"tunnel_operator: {error}", file=sys.stderr)  # noqa: T201 - no logs without settings
        return 2
    configure_logging(config.log_level)
    gc.set_threshold(*_COLLECT_AFTER)
    try:
        # On asyncio's own loop: aiohttp closes the socket of a connection that is reset in its TLS handshake, which
        # uvloop does not hear of, and then it refuses every later connection that gets the same descriptor.
        while asyncio.run(run(config)):
            pass
    except Exception:  # noqa: BLE001 - whatever it is, it is logged and ends the process
        # Kubernetes starts us again; the log says why in the form of all its other lines.
        structlog.get_logger(__name__).exception("operator.failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
