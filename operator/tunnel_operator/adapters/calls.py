"""Calls to Azure, counted and timed where they are made."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Protocol

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from msrest.exceptions import ClientException, HttpOperationError

from ..api.reasons import Reason
from ..errors import TunnelError
from .azure_errors import HUB_CODES, hub_error_code
from .budget import Budget

OK = "ok"
"""The code of a call that was answered as hoped for, and of one that says there is nothing."""


class CallObserver(Protocol):
    """Counts calls to Azure."""

    def __call__(self, service: str, verb: str, code: str, seconds: float) -> None:
        """Take one call: to which service, to what end, how it was answered and how long it took."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms calls to one service of Azure are made: when it is their turn, and who counts them.

    `may_act` raises when this process may not act any more. It is asked right before a call, since a process
    may stand still for any time wherever it waits, and what it then did would undo its successor's work.
    """

    budget: Budget
    observe: CallObserver
    may_act: Callable[[], None]

    def heed(self, error: Exception) -> None:
        """Let all wait when the service has asked one to."""
        match error:
            case TunnelError(reason=Reason.THROTTLED, retry_after=timedelta() as wait):
                self.budget.hold(wait)


@contextmanager
def counted(observe: CallObserver, service: str, verb: str) -> Iterator[None]:
    """Tell the observer of what is called inside; every exception goes on as it came."""
    began, code = time.monotonic(), OK
    try:
        yield
    except BaseException as error:
        code = code_of(error)
        raise
    finally:
        observe(service, verb, code, time.monotonic() - began)


def code_of(error: BaseException) -> str:
    """Return a short word for a failed call, out of a list that is closed: it becomes a label.

    It is the HTTP status or IoT Hub's own code where there was an answer.
    """
    match error:
        case BaseExceptionGroup(exceptions=(first, *_)):
            code = code_of(first)
        case ClientAuthenticationError(status_code=HTTPStatus.BAD_REQUEST):
            # Entra ID's answer to an identity that it does not know; Azure's services say 401 in this exception.
            code = "no-token"
        case HttpResponseError(status_code=int(status)):
            code = _word(status)
        case HttpOperationError(response=response) if response is not None:
            said = hub_error_code(response.status_code, response.headers, response.text)
            code = str(said) if said in HUB_CODES else _word(response.status_code)
        case ClientAuthenticationError() | FileNotFoundError() | PermissionError():
            # Refused by Entra ID, or never asked for: azure-identity could not read its own token.
            code = "no-token"
        case TimeoutError():
            code = "timeout"
        case AzureError() | ClientException():
            code = "unreachable"
        case _:
            # Called off, or a fault of ours.
            code = "broken-off"
    return code


def _word(status: int) -> str:
    return str(status) if status in set(HTTPStatus) else "other"
