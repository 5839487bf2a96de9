"""IoT Hub's MQTT names: text in, values out (documentation "Communicate with an IoT hub using MQTT")."""

from dataclasses import dataclass
from urllib.parse import parse_qs, quote

METHODS_FILTER = "$iothub/methods/POST/#"

TWIN_ANSWERS_FILTER = "$iothub/twin/res/#"
DESIRED_FILTER = "$iothub/twin/PATCH/properties/desired/#"

MAX_QOS = 1
"""What IoT Hub grants at most; it closes a connection that publishes with QoS 2."""

_METHOD_ANSWER = "$iothub/methods/res/"
_TWIN_GET = "$iothub/twin/GET/"
_TWIN_REPORT = "$iothub/twin/PATCH/properties/reported/"
_SERVICE_TOPICS = "$iothub/"


@dataclass(frozen=True, slots=True)
class Login:
    """What a client's user name says: `{hub host}/{device}[/{module}]/?api-version=…`."""

    host: str
    identity: str
    """`device`, or `device/module`."""


@dataclass(frozen=True, slots=True)
class MethodAnswerTopic:
    """A device answers the direct method call `request_id`."""

    status: int
    request_id: str


@dataclass(frozen=True, slots=True)
class TwinTopic:
    """A device asks for its twin, or reports properties."""

    reports: bool
    request_id: str


def parse_login(user_name: str) -> Login | None:
    """Read a user name; None when it is not of the form."""
    names, _, _query = user_name.partition("?")
    match names.rstrip("/").split("/"):
        case [host, device] if host and device:
            return Login(host.lower(), device)
        case [host, device, module] if host and device and module:
            return Login(host.lower(), f"{device}/{module}")
        case _:
            return None


def method_topic(name: str, request_id: str) -> str:
    """Return the topic by which a device is called."""
    return f"$iothub/methods/POST/{quote(name, safe='')}/?$rid={request_id}"


def parse_method_answer(topic: str) -> MethodAnswerTopic | None:
    """Read the topic of an answer: `$iothub/methods/res/{status}/?$rid={rid}`."""
    if not topic.startswith(_METHOD_ANSWER):
        return None
    status, _, query = topic.removeprefix(_METHOD_ANSWER).partition("/?")
    request_id = parse_qs(query).get("$rid", [""])[0]
    if not status.lstrip("-").isascii() or not status.lstrip("-").isdigit() or not request_id:
        return None
    return MethodAnswerTopic(int(status), request_id)


def parse_twin_request(topic: str) -> TwinTopic | None:
    """Read `$iothub/twin/GET/?$rid={rid}` or `$iothub/twin/PATCH/properties/reported/?$rid={rid}`."""
    path, _, query = topic.partition("?")
    request_id = parse_qs(query).get("$rid", [""])[0]
    if path not in (_TWIN_GET, _TWIN_REPORT) or not request_id:
        return None
    return TwinTopic(path == _TWIN_REPORT, request_id)


def twin_answer_topic(status: int, request_id: str, version: int | None) -> str:
    """Return the topic of an answer to a device about its twin."""
    tail = "" if version is None else f"&$version={version}"
    return f"$iothub/twin/res/{status}/?$rid={quote(request_id, safe='')}{tail}"


def desired_topic(version: int) -> str:
    """Return the topic by which a device is told of changed desired properties."""
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}"


def is_telemetry(topic: str, identity: str) -> bool:
    """Tell whether a topic is that of an identity's own messages."""
    device, _, module = identity.partition("/")
    own = f"devices/{device}/modules/{module}" if module else f"devices/{device}"
    return topic == f"{own}/messages/events" or topic.startswith(f"{own}/messages/events/")


def is_allowed_filter(name: str, identity: str) -> bool:
    """Tell whether an identity may subscribe to a filter: the service's topics and its own messages."""
    device = identity.partition("/")[0]
    return name.startswith((_SERVICE_TOPICS, f"devices/{device}/"))


def is_service_topic(topic: str) -> bool:
    """Tell whether a topic speaks to the service."""
    return topic.startswith(_SERVICE_TOPICS)
