"""What azure-iot-device raises, told apart by who can do something about it.

Documented is little of it. `tests/contract/test_sdk_iot_device_errors.py` has each from a hub that provokes it.
"""

from enum import StrEnum

from azure.iot.device.common.transport_exceptions import ProtocolProxyError, TlsExchangeAuthError
from azure.iot.device.exceptions import (
    ClientError,
    ConnectionDroppedError,
    ConnectionFailedError,
    CredentialError,
    NoConnectionError,
    OperationCancelled,
    OperationTimeout,
)


class Trouble(StrEnum):
    """Why the hub did not do what it was asked."""

    REFUSED = "refused"
    UNTRUSTED = "untrusted"
    UNREACHABLE = "unreachable"
    LOST = "lost"
    TIMEOUT = "timeout"
    UNEXPECTED = "unexpected"


class HubError(Exception):
    """The hub did not do what it was asked; the message is a sentence and holds no key."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble


def classify(error: Exception, host: str) -> HubError:
    """Return what an error of the SDK means. Whatever it is, asking again later does no harm."""
    match error:
        case CredentialError():
            return HubError(
                Trouble.REFUSED,
                f"{host} refuses this device. Compare DeviceId and SharedAccessKey with what `az iot hub"
                " device-identity connection-string show` says, and see that the device is enabled and"
                " that the clock is right.",
            )
        case ClientError(__cause__=TlsExchangeAuthError()):
            return HubError(
                Trouble.UNTRUSTED,
                f"No authority that is known here vouches for {host}; give the right one by --ca-file.",
            )
        case ConnectionFailedError() | ClientError(__cause__=ProtocolProxyError()):
            return HubError(Trouble.UNREACHABLE, f"{host} can not be reached: {_root(error)}.")
        case ConnectionDroppedError() | NoConnectionError() | OperationCancelled():
            return HubError(Trouble.LOST, f"The connection to {host} was lost.")
        case OperationTimeout() | TimeoutError():
            return HubError(Trouble.TIMEOUT, f"{host} has not answered in time.")
        case _:
            cause = _root(error)
            return HubError(
                Trouble.UNEXPECTED, f"azure-iot-device failed: {type(cause).__name__}: {cause}"
            )


def _root(error: BaseException) -> BaseException:
    """Return what it began with: the SDK wraps it twice, and says nothing of its own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
