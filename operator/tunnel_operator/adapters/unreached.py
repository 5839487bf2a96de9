"""Who could not be reached, and why: what the SDKs wrap, in words that name the host.

A call to Azure also asks Entra ID for a token, so the host tells more than the service that was called.
What the exceptions themselves say is left out: it differs between attempts, and may quote what was sent.
"""

import socket
import ssl
from collections.abc import Iterator

import aiohttp
import urllib3

from ..api.reasons import Reason
from ..errors import Retryable

_WORDS: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "its certificate is not one that the operator trusts"),
    (socket.gaierror, "its name can not be resolved"),
    (ConnectionRefusedError, "it refuses connections"),
    (TimeoutError, "it did not answer in time"),
    # A timeout of connecting by urllib3, which has no other of Python's own behind it.
    (urllib3.exceptions.TimeoutError, "it did not answer in time"),
    (ConnectionError, "the connection was broken"),
    (aiohttp.ServerConnectionError, "the connection was broken"),
    (ssl.SSLError, "the connection was broken"),
)


def unreached(error: BaseException, service: str) -> Retryable:
    """Return what it means that a call to a service ended without an answer."""
    if isinstance(error, FileNotFoundError | PermissionError):
        # azure-identity reads it for each token, and lets what happens then out as it is.
        text = "The operator's own token for Entra ID can not be read from its file: check its Pod's workload identity."
        return Retryable(Reason.UNAUTHORIZED, text)
    causes = list(_causes(error))
    host = next((host for cause in causes if (host := _host(cause))), None)
    who = service if host is None else f"{host}, asked for {service},"
    why = next(
        (words for kind, words in _WORDS if any(isinstance(cause, kind) for cause in causes)),
        type(causes[-1]).__name__,
    )
    return Retryable(Reason.UNAVAILABLE, f"{who} can not be reached: {why}.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what led to it, outermost first."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__


def _host(cause: BaseException) -> str | None:
    match cause:
        case aiohttp.ClientConnectorError(host=host):
            return str(host)
        case urllib3.exceptions.PoolError(pool=pool):
            return str(pool.host)
        case _:
            return None
