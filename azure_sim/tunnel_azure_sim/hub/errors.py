"""IoT Hub's errors (documentation "IoT Hub error codes")."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any


class Code(Enum):
    """Each error's number; its HTTP status is the number's first three digits."""

    ArgumentInvalid = 400004
    ArgumentNull = 400005
    DeviceAlreadyExists = 409001
    DeviceNotFound = 404001
    DeviceNotOnline = 404103
    DeviceConnectionClosedRemotely = 404104
    DeviceMaximumActiveMethodInvocations = 403800
    ConnectionForcefullyClosedOnNewConnection = 400027
    GatewayTimeout = 504101
    IotHubUnauthorized = 401003
    IotHubUnauthorizedAccess = 401002
    MessageTooLarge = 413001
    PreconditionFailed = 412001
    InvalidProtocolVersion = 400002
    NotFound = 404000
    ServerError = 500001

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
