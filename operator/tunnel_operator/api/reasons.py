"""The closed list of condition types and reasons. Reasons are for programs; messages are for people."""

from enum import StrEnum, unique


@unique
class ConditionType(StrEnum):
    """One condition for each hop on the way to the device, their sum, and what is being done about it."""

    ACCEPTED = "Accepted"
    HYBRID_CONNECTION_READY = "HybridConnectionReady"
    DEVICE_LISTENING = "DeviceListening"
    FORWARDER_READY = "ForwarderReady"
    EXPOSED = "Exposed"
    READY = "Ready"
    # Present only while True, as kstatus wants them.
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


@unique
class Reason(StrEnum):
    """Why a condition is as it is. `Ready` repeats the reason of the first hop that is not there."""

    # The sum
    OPEN = "Open"
    OPENING = "Opening"
    CLOSING = "Closing"
    EXPIRED = "Expired"
    EXPIRES_SOON = "ExpiresSoon"
    LEFT_BEHIND = "LeftBehind"
    IDLE = "Idle"
    SUSPENDED = "Suspended"
    # Accepted
    ACCEPTED = "Accepted"
    CLASS_NOT_FOUND = "ClassNotFound"
    CLASS_DELETED = "ClassDeleted"
    INVALID_CLASS = "InvalidClass"
    TTL_TOO_LONG = "TTLTooLong"
    NOT_ALLOWED = "NotAllowed"
    TOO_MANY_TUNNELS = "TooManyTunnels"
    NO_HOST = "NoHost"
    NO_GATEWAY = "NoGateway"
    TOO_MANY_PORTS = "TooManyPorts"
    INVALID_DEVICE_NAME = "InvalidDeviceName"
    # Azure, whichever service
    CREATED = "Created"
    UNAUTHORIZED = "Unauthorized"
    THROTTLED = "Throttled"
    UNAVAILABLE = "Unavailable"
    NOT_FOUND = "NotFound"
    REJECTED = "Rejected"
    QUOTA_EXCEEDED = "QuotaExceeded"
    NAME_TAKEN = "NameTaken"
    # The device
    LISTENING = "Listening"
    DEVICE_OFFLINE = "DeviceOffline"
    DEVICE_NOT_FOUND = "DeviceNotFound"
    DEVICE_REFUSED = "DeviceRefused"
    DEVICE_FAILED = "DeviceFailed"
    DEVICE_SILENT = "DeviceSilent"
    # The forwarder
    RUNNING = "Running"
    STARTING = "Starting"
    FORWARDER_FAILED = "ForwarderFailed"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    # Exposure
    EXPOSED = "Exposed"
    WAITING_FOR_ADDRESS = "WaitingForAddress"
    WAITING_FOR_GATEWAY = "WaitingForGateway"
    ROUTE_NOT_ACCEPTED = "RouteNotAccepted"
    GATEWAY_NOT_INSTALLED = "GatewayAPINotInstalled"
