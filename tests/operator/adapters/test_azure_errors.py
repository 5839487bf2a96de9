import json
from datetime import timedelta

import pytest

from tunnel_operator.adapters.azure_errors import (
    classify_arm,
    classify_hub,
    classify_no_token,
    hub_error_code,
)
from tunnel_operator.api.reasons import Reason
from tunnel_operator.errors import Retryable, Terminal


@pytest.mark.parametrize(
    ("status", "code", "kind", "reason"),
    [
        (401, "InvalidAuthenticationToken", Retryable, Reason.UNAUTHORIZED),
        (403, "AuthorizationFailed", Terminal, Reason.UNAUTHORIZED),
        (404, "ResourceGroupNotFound", Terminal, Reason.NOT_FOUND),
        (408, "", Retryable, Reason.UNAVAILABLE),
        (409, "Conflict", Retryable, Reason.UNAVAILABLE),
        (429, "TooManyRequests", Retryable, Reason.THROTTLED),
        (500, "InternalServerError", Retryable, Reason.UNAVAILABLE),
        (503, "ServerBusy", Retryable, Reason.UNAVAILABLE),
        (400, "QuotaExceeded", Terminal, Reason.QUOTA_EXCEEDED),
        (400, "BadRequest", Terminal, Reason.REJECTED),
    ],
)
def test_what_arm_means(status, code, kind, reason):
    error = classify_arm(status, code)
    assert type(error) is kind
    assert error.reason is reason
    assert str(status) in error.message


def test_arms_retry_after_is_kept():
    assert classify_arm(429, "", timedelta(seconds=7)).retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (404001, Terminal, Reason.DEVICE_NOT_FOUND),
        (404103, Retryable, Reason.DEVICE_OFFLINE),
        (404104, Retryable, Reason.DEVICE_OFFLINE),
        (400027, Retryable, Reason.DEVICE_OFFLINE),
        (504101, Retryable, Reason.DEVICE_SILENT),
        (403004, Retryable, Reason.THROTTLED),
        (403800, Retryable, Reason.THROTTLED),
        (403010, Terminal, Reason.REJECTED),
        (403002, Retryable, Reason.QUOTA_EXCEEDED),
        (401002, Retryable, Reason.UNAUTHORIZED),
        (401, Retryable, Reason.UNAUTHORIZED),
        (403, Terminal, Reason.UNAUTHORIZED),
        (429001, Retryable, Reason.THROTTLED),
        (500001, Retryable, Reason.UNAVAILABLE),
        (503003, Retryable, Reason.UNAVAILABLE),
        (502, Retryable, Reason.UNAVAILABLE),
        (400004, Terminal, Reason.REJECTED),
        (404, Terminal, Reason.REJECTED),
    ],
)
def test_what_iot_hub_means(code, kind, reason):
    error = classify_hub(code, "mri-7", waited_seconds=30)
    assert type(error) is kind
    assert error.reason is reason


@pytest.mark.parametrize("code", [429001, 500001, 503, 504101, 403800])
def test_iot_hubs_retry_after_is_kept(code):
    wait = timedelta(seconds=7)
    assert classify_hub(code, "mri-7", waited_seconds=30, retry_after=wait).retry_after == wait


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (None, Retryable, Reason.UNAVAILABLE),
        (429, Retryable, Reason.UNAVAILABLE),
        (503, Retryable, Reason.UNAVAILABLE),
        (400, Terminal, Reason.UNAUTHORIZED),
        (401, Terminal, Reason.UNAUTHORIZED),
    ],
)
def test_what_it_means_to_get_no_token(status, kind, reason):
    error = classify_no_token(status)
    assert type(error) is kind
    assert error.reason is reason


def nested(code):
    inner = json.dumps({"errorCode": code, "trackingId": "x", "message": "y"})
    return json.dumps({"Message": inner, "ExceptionMessage": ""})


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({"IotHub-ErrorCode": "DeviceNotOnline"}, "", 404103),
        ({"iothub-errorcode": "Unheard"}, nested(404001), 404001),
        ({}, nested(504101), 504101),
        ({}, json.dumps({"Message": "ErrorCode:DeviceNotOnline;Timed out"}), 404103),
        ({}, json.dumps({"Message": "ErrorCode:Unheard;x"}), 404),
        ({}, json.dumps({"Message": "no code"}), 404),
        ({}, "<html>", 404),
        ({}, "", 404),
        ({}, "[]", 404),
    ],
)
def test_finds_iot_hubs_code_wherever_it_is(headers, body, code):
    assert hub_error_code(404, headers, body) == code
