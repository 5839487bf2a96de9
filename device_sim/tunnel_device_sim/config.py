"""What the device is told at its start."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.method import Forward
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.urls import RelayEndpoint


def parse_pairs(text: str) -> dict[str, str]:
    """Read a connection string, `Name=value;Name=value`. Raises ProtocolError, which quotes no value."""
    pairs = [part.partition("=") for part in text.strip().strip(";").split(";")]
    if any(not name or not equals for name, equals, _ in pairs):
        raise ProtocolError("The connection string is not of the form Name=value;Name=value.")
    return {name: value for name, _, value in pairs}


@dataclass(frozen=True, slots=True)
class AllowList:
    """The targets that the device opens, whoever asks. A host is compared as it is written.

    HOST:PORT allows TCP, HOST:PORT/udp datagrams, and unix:/PATH the socket of that name.
    """

    targets: frozenset[tuple[str, str, int]]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> "AllowList":
        """Read entries of those forms. Raises ProtocolError."""
        return cls(frozenset(_entry(entry) for entry in entries))

    def permits(self, forward: Forward) -> bool:
        """Tell whether the device opens this target."""
        if forward.protocol == "unix":
            return ("unix", forward.host, 0) in self.targets
        return (forward.protocol, forward.host.lower(), forward.port) in self.targets


@dataclass(frozen=True, slots=True)
class SampleMode:
    """What the sample's device gets from its environment: a relay, and one service.

    Sample: Azure-Samples/secure-tunneling-azure-relay, `src/simulated-device/Program.cs`.
    """

    endpoint: RelayEndpoint
    rule: str
    key: Secret
    service_protocol: str
    service_port: int

    PORT_NAME: ClassVar = "test"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "SampleMode | None":
        """Return what the sample's variables say; None without them. Raises ProtocolError."""
        text = environment.get("AZRELAY_CONN_STRING")
        if not text:
            return None
        pairs = parse_pairs(text)
        try:
            return cls(
                endpoint=RelayEndpoint.parse(pairs["Endpoint"]),
                rule=pairs["SharedAccessKeyName"],
                key=Secret(pairs["SharedAccessKey"]),
                service_protocol=environment.get("SERVICE_PROTOCOL", "http"),
                service_port=int(environment.get("SERVICE_PORT", "8080")),
            )
        except KeyError as error:
            raise ProtocolError(f"AZRELAY_CONN_STRING lacks {error}.") from None
        except ValueError as error:
            raise ProtocolError(f"AZRELAY_CONN_STRING or SERVICE_PORT: {error}") from None


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """The whole of a device's configuration."""

    connection_string: Secret
    allow: AllowList
    authorities: str | None = None
    open_method: str = "CreateConnection"
    close_method: str = "DeleteConnection"
    web_port: int = 8080
    echo_port: int = 7007
    telemetry_interval: float = 1.0
    ready_file: Path | None = None
    max_tunnels: int = 8
    sample: SampleMode | None = None

    @property
    def device_id(self) -> str:
        """The device's name at its hub. Raises ProtocolError when the connection string has none."""
        try:
            return parse_pairs(self.connection_string.reveal())["DeviceId"]
        except KeyError:
            raise ProtocolError("The connection string lacks DeviceId.") from None


def _entry(entry: str) -> tuple[str, str, int]:
    if entry.startswith("unix:/"):
        return "unix", entry.removeprefix("unix:"), 0
    address, _, protocol = entry.partition("/")
    if protocol not in ("", "tcp", "udp"):
        raise ProtocolError(f"{entry!r} is of no known protocol.")
    return protocol or "tcp", *_host_and_port(address)


def _host_and_port(entry: str) -> tuple[str, int]:
    host, _, port = entry.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65535:  # noqa: PLR2004 - TCP ports
        raise ProtocolError(f"{entry!r} is not of the form HOST:PORT.")
    return host.strip("[]").lower(), int(port)
