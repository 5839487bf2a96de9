"""The operator's settings, each an environment variable."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .api.tunnel_class import DEFAULT_CONTROLLER

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ConfigError(ValueError):
    """A setting is missing or wrong; the message is for the person who set it."""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings.

    FORWARDER_IMAGE     the forwarder's image where a TunnelClass names none; required
    POD_NAMESPACE       the operator's own namespace, where it reads Secrets; that of its Pod when left out
    WATCH_NAMESPACES    the namespaces whose Tunnels are served, with commas between; all when left out
    LEASE_NAME          the Lease in the operator's own namespace by which one of several replicas leads
    CONTROLLER_NAME     the TunnelClasses that are served, by their spec.controllerName
    CLUSTER_ID          marks hybrid connections as this cluster's, in a namespace that several share; nothing is
                        swept without
    SWEEP               delete, report or off: hybrid connections that a lost cluster of this id left behind
    TUNNEL_CLASSES_FILE the TunnelClasses; those of the cluster when left out
    WORKERS             how many Tunnels are worked on at the same time
    ARM_PER_SECOND      calls that Azure Resource Manager gets of us, after a burst of 200: Azure's own limit is
                        10 for a subscription and principal; more only where Microsoft has raised it
    METHODS_PER_SECOND  direct methods that each IoT Hub gets of us, after a burst of 50
    HEALTH_PORT         where /livez, /readyz and /metrics answer
    LOG_LEVEL           DEBUG, INFO, WARNING or ERROR
    """

    forwarder_image: str
    namespace: str
    watch_namespaces: tuple[str, ...] = ()
    lease_name: str = "tunnel-operator"
    controller_name: str = DEFAULT_CONTROLLER
    cluster_id: str = ""
    sweep: str = "report"
    tunnel_classes_file: Path | None = None
    workers: int = 64
    arm_per_second: int = 10
    methods_per_second: int = 10
    health_port: int = 8080
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Config":
        """Read the environment. Raises ConfigError."""
        image = environ.get("FORWARDER_IMAGE", "")
        if not image:
            raise ConfigError("FORWARDER_IMAGE is not set: name the forwarder's image.")
        sweep = environ.get("SWEEP") or "report"
        if sweep not in ("delete", "report", "off"):
            raise ConfigError(f"SWEEP is {sweep!r}: use delete, report or off.")
        cluster_id = environ.get("CLUSTER_ID") or ""
        if sweep == "delete" and not cluster_id:
            raise ConfigError(
                "SWEEP is 'delete' and CLUSTER_ID is not set: it says which hybrid connections are this cluster's."
            )
        level = environ.get("LOG_LEVEL", "INFO").upper()
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ConfigError(f"LOG_LEVEL is {level!r}: use DEBUG, INFO, WARNING or ERROR.")
        return cls(
            forwarder_image=image,
            namespace=environ.get("POD_NAMESPACE") or _own_namespace(),
            watch_namespaces=tuple(
                name.strip()
                for name in environ.get("WATCH_NAMESPACES", "").split(",")
                if name.strip()
            ),
            lease_name=environ.get("LEASE_NAME") or "tunnel-operator",
            controller_name=environ.get("CONTROLLER_NAME") or DEFAULT_CONTROLLER,
            cluster_id=cluster_id,
            sweep=sweep,
            tunnel_classes_file=_path(environ, "TUNNEL_CLASSES_FILE"),
            workers=_number(environ, "WORKERS", 64, lowest=1),
            arm_per_second=_number(environ, "ARM_PER_SECOND", 10, lowest=1),
            methods_per_second=_number(environ, "METHODS_PER_SECOND", 10, lowest=1),
            health_port=_number(environ, "HEALTH_PORT", 8080, lowest=0),
            log_level=level,
        )


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError:
        raise ConfigError(
            "POD_NAMESPACE is not set, and this is no Pod that could tell its namespace."
        ) from None


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name)
    return Path(text) if text else None


def _number(environ: Mapping[str, str], name: str, default: int, *, lowest: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < lowest:
        raise ConfigError(f"{name} is {text!r}: it must be a whole number of at least {lowest}.")
    return int(text)
