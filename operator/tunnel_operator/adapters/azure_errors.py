"""What Azure's refusals mean: pure functions from an answer's parts to a TunnelError.

The messages hold no tracking ids and no times of Azure's: a message that changes with each attempt would
make a write to the API server of each.
"""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus

from ..api.reasons import Reason
from ..errors import Retryable, Terminal, TunnelError

_NAMES = {
    # "Troubleshoot Azure IoT Hub error codes", and the header iothub-errorcode.
    "DeviceNotFound": 404001,
    "DeviceNotOnline": 404103,
    "DeviceConnectionClosedRemotely": 404104,
    "ConnectionForcefullyClosedOnNewConnection": 400027,
    "GatewayTimeout": 504101,
    "DeviceMaximumQueueDepthExceeded": 403004,
    "DeviceMaximumInflightMethodExceeded": 403800,
    "IotHubQuotaExceeded": 403002,
    "OperationNotAvailableInCurrentTier": 403010,
    "ThrottlingException": 429001,
    "IotHubUnauthorizedAccess": 401002,
    "IotHubUnauthorized": 401003,
}
HUB_CODES = frozenset(_NAMES.values())
"""The codes of IoT Hub's own that are told apart."""

CODES_OF_ONE_DEVICE = frozenset({403004, 403800, 429005})
"""One device has too much to do; the hub itself does not ask to be spared."""

_CODE_IN_TEXT = re.compile(r"ErrorCode:\s*(\w+)")


def classify_arm(status: int, code: str, retry_after: timedelta | None = None) -> TunnelError:
    """Return what an answer of Azure Resource Manager means (Azure REST API guidelines; Retry-After)."""
    said = f"Azure Resource Manager answered {status}{f' {code}' if code else ''}"
    meaning = _ARM_MEANINGS.get(status)
    if meaning is not None:
        kind, reason, text = meaning
        return kind(reason, f"{said}: {text}", retry_after=retry_after)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Retryable(Reason.UNAVAILABLE, f"{said}.", retry_after=retry_after)
    if "quota" in code.lower():
        return Terminal(Reason.QUOTA_EXCEEDED, f"{said}: the namespace is full.")
    return Terminal(Reason.REJECTED, f"{said}.")


def hub_error_code(status: int, headers: Mapping[str, str], body: str) -> int:
    """Return IoT Hub's own code, from the header, the JSON in the JSON, or the text; else the status."""
    name = next((v for k, v in headers.items() if k.lower() == "iothub-errorcode"), None)
    if name in _NAMES:
        return _NAMES[name]
    try:
        message = str(json.loads(body)["Message"])
    except (ValueError, KeyError, TypeError):
        return status
    try:
        return int(json.loads(message)["errorCode"])
    except (ValueError, KeyError, TypeError):
        match = _CODE_IN_TEXT.search(message)
        return _NAMES.get(match.group(1), status) if match else status


def classify_hub(
    code: int, device: str, *, waited_seconds: int, retry_after: timedelta | None = None
) -> TunnelError:
    """Return what an IoT Hub error code means for a direct method ("Azure IoT Hub error codes")."""
    known = _HUB_MEANINGS.get(code)
    if known is not None:
        kind, reason, text = known
        said = text.format(device=device, seconds=waited_seconds)
        return kind(reason, said, retry_after=retry_after)
    status = code if code < _FIRST_CODE else code // 1000
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return Retryable(Reason.UNAUTHORIZED, _HUB_UNAUTHORIZED.format(code=code))
        case HTTPStatus.FORBIDDEN:
            return Terminal(Reason.UNAUTHORIZED, _HUB_UNAUTHORIZED.format(code=code))
        case HTTPStatus.TOO_MANY_REQUESTS:
            return Retryable(
                Reason.THROTTLED,
                f"IoT Hub answered {code}: too many requests; waiting.",
                retry_after=retry_after,
            )
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Retryable(
                Reason.UNAVAILABLE, f"IoT Hub answered {code}.", retry_after=retry_after
            )
        case _:
            return Terminal(Reason.REJECTED, f"IoT Hub answered {code}.")


def classify_no_token(status: int | None) -> TunnelError:
    """Return what it means that Entra ID gave no token; without a status it gave no answer either."""
    if (
        status is None
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or status == HTTPStatus.TOO_MANY_REQUESTS
    ):
        said = "did not answer" if status is None else f"answered {status}"
        return Retryable(
            Reason.UNAVAILABLE,
            f"Entra ID {said} when asked for a token; it is asked again. If that goes on, check the "
            "operator's workload identity.",
        )
    return Terminal(
        Reason.UNAUTHORIZED,
        f"Entra ID refused the operator a token with {status}: check its workload identity.",
    )


_FIRST_CODE = 100_000
_ARM_MEANINGS: dict[int, tuple[type[Retryable] | type[Terminal], Reason, str]] = {
    # Also of a token that ended on its way, which says nothing of the operator's rights.
    HTTPStatus.UNAUTHORIZED: (
        Retryable,
        Reason.UNAUTHORIZED,
        "it did not take the token; trying with a new one. If that goes on, check the workload identity.",
    ),
    HTTPStatus.FORBIDDEN: (
        Terminal,
        Reason.UNAUTHORIZED,
        "give the operator's identity the role 'Azure Relay Owner' on the namespace.",
    ),
    HTTPStatus.NOT_FOUND: (
        Terminal,
        Reason.NOT_FOUND,
        "see that the class names an existing subscription, resource group and namespace.",
    ),
    HTTPStatus.REQUEST_TIMEOUT: (Retryable, Reason.UNAVAILABLE, "it took too long."),
    HTTPStatus.CONFLICT: (Retryable, Reason.UNAVAILABLE, "another change is under way."),
    HTTPStatus.TOO_MANY_REQUESTS: (Retryable, Reason.THROTTLED, "waiting as long as it asked."),
}
_HUB_UNAUTHORIZED = (
    "IoT Hub answered {code}: give the operator's identity the right to invoke direct methods "
    "('IoT Hub Data Contributor'), or check the policy of the connection string."
)
_HUB_MEANINGS: dict[int, tuple[type[Retryable] | type[Terminal], Reason, str]] = {
    404001: (
        Terminal,
        Reason.DEVICE_NOT_FOUND,
        "Device {device!r} is not registered with the IoT Hub, or is disabled there.",
    ),
    404103: (
        Retryable,
        Reason.DEVICE_OFFLINE,
        "Device {device!r} is not connected to the IoT Hub; it is asked again until it is.",
    ),
    404104: (
        Retryable,
        Reason.DEVICE_OFFLINE,
        "Device {device!r} lost its connection to the IoT Hub while it was asked.",
    ),
    400027: (
        Retryable,
        Reason.DEVICE_OFFLINE,
        "Device {device!r} connected to the IoT Hub anew while it was asked; it is asked again.",
    ),
    504101: (
        Retryable,
        Reason.DEVICE_SILENT,
        "Device {device!r} did not answer within {seconds} s.",
    ),
    403800: (
        Retryable,
        Reason.THROTTLED,
        "Device {device!r} has too many calls to answer already.",
    ),
    # Not of the operator's rights, as other codes of 403 are.
    403004: (
        Retryable,
        Reason.THROTTLED,
        "Device {device!r} has too many messages waiting for it at the IoT Hub.",
    ),
    403002: (
        Retryable,
        Reason.QUOTA_EXCEEDED,
        "The IoT Hub's quota of messages for today is used up.",
    ),
    403010: (
        Terminal,
        Reason.REJECTED,
        "The IoT Hub is of the tier Basic, which has no direct methods.",
    ),
}
