"""IoT Hub's errors: numbers and names of the documentation "Troubleshoot Azure IoT Hub error codes"."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

ASSUMED_NESTED_BODY = True
"""Each error's `Message` is JSON in a string. Observed is this one for direct methods; for some others
an older form, `ErrorCode:{name};{sentence}` (Azure/azure-iot-sdk-c issue 1815). Clients take the header."""


class Code(IntEnum):
    """Each error's number; its HTTP status is the number's first three digits. Text with its digits is read too."""

    InvalidProtocolVersion = 400001
    ArgumentInvalid = 400004
    ArgumentNull = 400005
    ConnectionForcefullyClosedOnNewConnection = 400027
    IotHubUnauthorizedAccess = 401002
    IotHubUnauthorized = 401003
    IotHubQuotaExceeded = 403002
    OperationNotAvailableInCurrentTier = 403010
    DeviceMaximumInflightMethodExceeded = 403800
    GenericNotFound = 404000
    DeviceNotFound = 404001
    ModuleNotFound = 404010
    DeviceNotOnline = 404103
    DeviceConnectionClosedRemotely = 404104
    DeviceAlreadyExists = 409001
    ModuleAlreadyExistsOnDevice = 409301
    PreconditionFailed = 412001
    MessageTooLarge = 413001
    TooManyModulesOnDevice = 413003
    ThrottlingException = 429001
    ThrottleBacklogLimitExceeded = 429002
    ThrottlingBacklogTimeout = 429003
    ThrottlingMaxActiveJobCountExceeded = 429004
    DeviceThrottlingLimitExceeded = 429005
    ServerError = 500001
    GenericTimeout = 500008
    ServiceUnavailable = 503001
    PartitionNotFound = 503003
    GatewayTimeout = 504101

    @classmethod
    def _missing_(cls, value: object) -> "Code | None":
        return cls(int(value)) if isinstance(value, str) and value.isdecimal() else None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value // 1000


@dataclass
class HubError(Exception):
    """A REST call is refused."""

    code: Code
    sentence: str
    info: dict[str, Any] | None = None
    retry_after: int | None = None
    """Seconds."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to this error."""
        later = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return {"iothub-errorcode": self.code.name, **later}

    def body(self, *, tracking_id: str, now: datetime) -> dict[str, Any]:
        """Return the JSON body, whose `Message` is JSON in a string."""
        moment = now.astimezone(UTC)
        inner: dict[str, Any] = {
            "errorCode": self.code.value,
            "trackingId": f"{tracking_id}-TimeStamp:{moment:%m/%d/%Y %H:%M:%S}",
            "message": self.sentence,
            "timestampUtc": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        if self.info is not None:
            inner["info"] = self.info
        return {"Message": json.dumps(inner), "ExceptionMessage": ""}
