"""A simulated Azure for the demo and the tests: Relay, its ARM API, IoT Hub and a token endpoint.

The official clients run against it unchanged. What no document settles about the real services is named
`ASSUMED_...` in the code and listed in the README beside this package.
"""

from .actions import Target
from .app import AzureSim
from .config import HubConfig, NamespaceConfig, SimConfig, Timings
from .endpoints import DeviceEndpoint, Endpoints, HubEndpoint, RelayNamespaceEndpoint
from .faults import (
    ArmFailure,
    HubFailure,
    Latency,
    LostAccept,
    LostMethodAnswer,
    Outage,
    OutageMode,
    Plane,
    SlowReader,
)
from .journal import ArmCall, MethodCall
from .views import DeviceView, HybridConnectionView

__all__ = [
    "ArmCall",
    "ArmFailure",
    "AzureSim",
    "DeviceEndpoint",
    "DeviceView",
    "Endpoints",
    "HubConfig",
    "HubEndpoint",
    "HubFailure",
    "HybridConnectionView",
    "Latency",
    "LostAccept",
    "LostMethodAnswer",
    "MethodCall",
    "NamespaceConfig",
    "Outage",
    "OutageMode",
    "Plane",
    "RelayNamespaceEndpoint",
    "SimConfig",
    "SlowReader",
    "Target",
    "Timings",
]
