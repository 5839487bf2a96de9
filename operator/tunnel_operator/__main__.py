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

Nearly all that a pass makes goes by itself. With Python's 700, 10, 10 looking for the rest is some hundredths of
the processor time of a fleet's opening (`make bench-operator`).
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
        # Not on uvloop: once the API server has reset connections, aiohttp's next ones fail there, for as long as
        # the process lives, with "File descriptor is used by transport" (uvloop issue 653; `make matrix` found it).
        while asyncio.run(run(config)):
            pass
    except Exception:  # noqa: BLE001 - whatever it is, it is logged and ends the process
        # Kubernetes starts us again; the log says why in the form of all its other lines.
        structlog.get_logger(__name__).exception("operator.failed")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
