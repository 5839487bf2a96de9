import asyncio
import json
from types import SimpleNamespace

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
)
from msrest.exceptions import ClientRequestError, HttpOperationError

from tunnel_operator.adapters.calls import code_of, counted


def arm(status):
    error = HttpResponseError("no")
    error.status_code = status
    return error


def entra(status):
    error = ClientAuthenticationError("no")
    error.status_code = status
    return error


def hub(status, code):
    body = json.dumps({"Message": json.dumps({"errorCode": code})})
    error = HttpOperationError.__new__(HttpOperationError)
    error.response = SimpleNamespace(status_code=status, headers={}, text=body)
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (arm(429), "429"),
        (arm(403), "403"),
        (arm(799), "other"),
        (ExceptionGroup("both rules", [arm(409), arm(500)]), "409"),
        (hub(404, 404103), "404103"),
        (hub(429, 429001), "429001"),
        (hub(400, 123456), "400"),
        (ClientAuthenticationError("no"), "no-token"),
        # An unknown client or federation.
        (entra(400), "no-token"),
        (entra(401), "401"),
        (entra(503), "503"),
        (hub(401, 401002), "401002"),
        (ServiceRequestError("no"), "unreachable"),
        (ClientRequestError("no"), "unreachable"),
        (FileNotFoundError("token"), "no-token"),
        (TimeoutError(), "timeout"),
        (asyncio.CancelledError(), "broken-off"),
    ],
)
def test_a_failed_call_gets_a_short_word(error, code):
    assert code_of(error) == code


def test_a_call_is_counted_once_however_it_ends():
    calls = []
    observe = lambda *call: calls.append(call)  # noqa: E731
    with counted(observe, "arm", "observe"):
        pass
    with pytest.raises(TimeoutError), counted(observe, "iothub", "open"):
        raise TimeoutError
    assert [call[:3] for call in calls] == [("arm", "observe", "ok"), ("iothub", "open", "timeout")]
    assert all(seconds >= 0 for *_, seconds in calls)
