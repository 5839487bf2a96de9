"""One JSON object a line, for our own lines and those of kopf, aiohttp and the Azure SDKs alike."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_SECRETS = re.compile(
    r"(SharedAccessSignature\s+|SharedAccessKey=|Bearer\s+|sig=)[^\s;\"']+", re.IGNORECASE
)

# Without local variables: those hold tokens.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)

_QUIET = {
    # Each event handler's success is a line of kopf's.
    "kopf": logging.WARNING,
    "aiohttp.access": logging.WARNING,
    # The Azure SDKs log each request with its headers.
    "asyncio": logging.WARNING,
    "azure": logging.WARNING,
    "kubernetes": logging.WARNING,
    "msal": logging.WARNING,
    "msrest": logging.WARNING,
    "uamqp": logging.WARNING,
    "urllib3": logging.WARNING,
}


def configure_logging(level: str, stream: TextIO = sys.stdout) -> None:
    """Send all log records to the stream as JSON. A second safety net hides what looks like a token."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(allow=["k8s_ref"]),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _TRACEBACKS,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                hide_secrets,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet_level in _QUIET.items():
        logging.getLogger(name).setLevel(quiet_level)


def hide_secrets(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace what looks like a token or a key, wherever in the record it is."""
    return {name: _hidden(value) for name, value in event.items()}


def _hidden(value: object) -> object:
    if isinstance(value, str):
        return _SECRETS.sub(r"\1***", value)
    if isinstance(value, dict):
        return {name: _hidden(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(inner) for inner in value]
    return value
