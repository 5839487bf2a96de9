"""`python -m tunnel_operator`: runs the operator with the settings of its environment."""

import asyncio
import sys

from .app import run
from .config import Config, ConfigError
from .observability.logs import configure_logging


def main() -> int:
    """Return the exit code: 0 after a signal, 2 for bad settings."""
    try:
        config = Config.from_env()
    except ConfigError as error:
        print(f"tunnel_operator: {error}", file=sys.stderr)  # noqa: T201 - no logs without settings
        return 2
    configure_logging(config.log_level)
    asyncio.run(run(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
