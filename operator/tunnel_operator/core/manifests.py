"""The objects of the cluster that a tunnel is made of, as JSON-like data."""

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from tunnel_forwarder.protocol.settings import (
    CA_FILE,
    SETTINGS_FILE,
    TOKEN_FILE,
    ForwarderSettings,
    ListenPort,
)

from ..api.tunnel import Client, Port, Protocol, Tunnel
from ..api.tunnel_class import PodTemplate
from . import names
from .observed import Child
from .terms import IngressTerms, RouteTerms, Terms

LEASE_ANNOTATION = "tunnels.dev/lease"
"""A digest of what the forwarder is told, on its Secret."""

TOKEN_ANNOTATION = "tunnels.dev/token-digest"  # noqa: S105 - the name of an annotation
"""A digest of the forwarder's token, on its Secret: it tells a token of ours from what somebody put there."""

SECRET_ANNOTATION = "tunnels.dev/secret-version"  # noqa: S105 - the name of an annotation
"""The version of the Secret that the Pod was last made or touched for."""

REVISION_ANNOTATION = "tunnels.dev/revision"
"""A digest of the whole intent, so that a field that is wanted no longer is seen to be there still."""

SETTINGS_DIR = "/etc/tunnel"
HEALTH_PORT = 10000
FIRST_PORT = 10001
USER = 65532
DRAIN_SECONDS = 25


def listen_ports(tunnel: Tunnel) -> dict[str, int]:
    """Return the forwarder's own port for each port name: high ones, which need no privilege."""
    by_name = sorted(port.name for port in tunnel.spec.ports)
    return {name: FIRST_PORT + index for index, name in enumerate(by_name)}


def make_settings(tunnel: Tunnel, terms: Terms, expires_at: datetime) -> ForwarderSettings:
    """Return what the forwarder is told."""
    listen = listen_ports(tunnel)
    return ForwarderSettings(
        tunnel=str(tunnel),
        correlation_id=names.correlation_id(tunnel),
        endpoint=terms.endpoint,
        hybrid_connection=terms.hybrid_connection,
        ports=tuple(
            ListenPort(terms.port_name(port), listen[port.name]) for port in tunnel.spec.ports
        ),
        expires_at=expires_at,
        idle_seconds=int(terms.idle_timeout.total_seconds()),
        warm_connections=terms.klass.forwarder.warm_connections,
        warm_most=terms.klass.forwarder.most_warm,
        mux=terms.is_multiplexed,
    )


def make_secret(tunnel: Tunnel, terms: Terms, expires_at: datetime) -> dict[str, Any]:
    """Return the forwarder's Secret, but for the token: that needs a key, which decisions do not have."""
    settings = make_settings(tunnel, terms, expires_at).to_json()
    files = {SETTINGS_FILE: settings} | ({CA_FILE: terms.ca_pem} if terms.ca_pem else {})
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(
            tunnel, names.forwarder(tunnel), {LEASE_ANNOTATION: names.digest(files)}
        ),
        "type": "Opaque",
        "data": {name: _base64(text) for name, text in files.items()},
    }


def with_token(secret: Mapping[str, Any], token: str) -> dict[str, Any]:
    """Return a forwarder's Secret with its token."""
    data = {**secret["data"], TOKEN_FILE: _base64(token)}
    metadata = secret["metadata"]
    digest = {TOKEN_ANNOTATION: digests(data)[TOKEN_FILE]}
    annotations = {**metadata["annotations"], **digest}
    return {**secret, "metadata": {**metadata, "annotations": annotations}, "data": data}


def digests(data: Mapping[str, str]) -> dict[str, str]:
    """Return what is kept of a Secret's data: enough to tell whether it was changed, and no more."""
    return {name: names.digest(value) for name, value in data.items()}


def has_own_token(secret: Child) -> bool:
    """Tell whether a Secret's token is the one that it was written with, as far as it says so."""
    written = secret.annotation(TOKEN_ANNOTATION)
    return written is None or (secret.body.get("data") or {}).get(TOKEN_FILE) == written


def with_secret_version(pod: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return a forwarder's Pod that says for which version of its Secret it is."""
    metadata = pod["metadata"]
    annotations = {**metadata["annotations"], SECRET_ANNOTATION: version}
    return {**pod, "metadata": {**metadata, "annotations": annotations}}


def make_pod(tunnel: Tunnel, terms: Terms) -> dict[str, Any]:
    """Return the forwarder's Pod.

    It has no rights in the cluster, no privilege on its node and no disk to write to. It ends with
    success when it means to, and is started again in its place when it fails.
    """
    spec = {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": DRAIN_SECONDS + 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(tunnel, terms)],
        "volumes": [
            {
                "name": "tunnel",
                "secret": {"secretName": names.forwarder(tunnel), "defaultMode": 0o440},
            },
            # aiofastnet 1.2, which carries the forwarder's TLS, decodes certificates by way of a file.
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
    }
    return _with_template(tunnel, spec, terms.klass.forwarder.pod_template)


def _with_template(tunnel: Tunnel, spec: dict[str, Any], template: PodTemplate) -> dict[str, Any]:
    """Return the Pod with what the class adds; where both say something, the operator's word holds."""
    added = template.spec.to_dict()
    for constraint in added.get("topologySpreadConstraints", ()):
        constraint["labelSelector"] = {"matchLabels": names.forwarder_labels()}
    spec = added | spec
    more = {key: value for key, value in template.metadata.to_dict().items() if value}
    # The digest is of all that a Pod can only be made with, or that only a new one should have.
    revision = names.digest([spec, more] if more else spec)
    metadata = _metadata(tunnel, names.forwarder(tunnel), {REVISION_ANNOTATION: revision})
    for field, values in more.items():
        metadata[field] = values | metadata[field]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _container(tunnel: Tunnel, terms: Terms) -> dict[str, Any]:
    forwarder = terms.klass.forwarder
    ports = [
        {"name": name, "containerPort": number, "protocol": "TCP"}
        for name, number in listen_ports(tunnel).items()
    ]

    def probe(path: str, **timing: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": HEALTH_PORT}, **timing}

    return {
        "name": "forwarder",
        "image": terms.image,
        "imagePullPolicy": forwarder.image_pull_policy,
        "args": [
            *("serve", "--settings-dir", SETTINGS_DIR),
            *("--health-port", str(HEALTH_PORT), "--grace", str(DRAIN_SECONDS)),
        ],
        "ports": [*ports, {"name": "health", "containerPort": HEALTH_PORT, "protocol": "TCP"}],
        "readinessProbe": probe("/readyz", periodSeconds=1, timeoutSeconds=2, failureThreshold=2),
        "livenessProbe": probe("/livez", periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
        # Last words that the forwarder could not write itself are the end of its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": forwarder.resources.to_dict(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tunnel", "mountPath": SETTINGS_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a mount point of the Pod's own
        ],
    }


def make_service(tunnel: Tunnel) -> dict[str, Any]:
    """Return the Service, which leads to the forwarder once that has proven the way to the device."""
    wish = tunnel.spec.expose.service
    listen = listen_ports(tunnel)
    spec = {
        "type": wish.type,
        "selector": {names.TUNNEL_LABEL: tunnel.metadata.name},
        "ports": [_service_port(port, listen[port.name]) for port in tunnel.spec.ports],
    }
    return _with_revision(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(tunnel, names.service(tunnel), dict(wish.annotations)),
            "spec": spec,
        }
    )


def _service_port(port: Port, target: int) -> dict[str, Any]:
    app_protocol = {Protocol.HTTP: "http", Protocol.HTTPS: "https"}.get(port.protocol)
    return {
        "name": port.name,
        "port": port.port,
        "targetPort": target,
        "protocol": "TCP",
    } | ({"appProtocol": app_protocol} if app_protocol else {})


def make_ingress(tunnel: Tunnel, terms: Terms, ingress: IngressTerms) -> dict[str, Any]:
    """Return the Ingress for the tunnel's one HTTP port."""
    exposure = terms.klass.exposure
    backend = {"service": {"name": names.service(tunnel), "port": {"name": ingress.port.name}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec: dict[str, Any] = {"rules": [{"host": ingress.host, "http": {"paths": [path]}}]}
    if exposure.ingress_class_name is not None:
        spec["ingressClassName"] = exposure.ingress_class_name
    if ingress.tls_secret_name is not None:
        spec["tls"] = [{"hosts": [ingress.host], "secretName": ingress.tls_secret_name}]
    annotations = dict(exposure.ingress_annotations)
    return _with_revision(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": _metadata(tunnel, names.service(tunnel), annotations),
            "spec": spec,
        }
    )


def make_route(tunnel: Tunnel, route: RouteTerms, api_version: str) -> dict[str, Any]:
    """Return the route from the class's Gateway to one port."""
    parent: dict[str, Any] = {"name": route.gateway.name, "namespace": route.gateway.namespace}
    if route.section_name is not None:
        parent["sectionName"] = route.section_name
    backend = {"name": names.service(tunnel), "port": route.port.port}
    spec: dict[str, Any] = {"parentRefs": [parent], "rules": [{"backendRefs": [backend]}]}
    if route.host is not None:
        spec["hostnames"] = [route.host]
    return _with_revision(
        {
            "apiVersion": api_version,
            "kind": route.kind.value,
            "metadata": _metadata(tunnel, names.route(tunnel, route.kind), {}),
            "spec": spec,
        }
    )


def make_network_policy(tunnel: Tunnel, clients: Iterable[Client]) -> dict[str, Any]:
    """Return the NetworkPolicy that keeps out whoever is no client of the tunnel."""
    listen = listen_ports(tunnel).values()
    spec = {
        "podSelector": {"matchLabels": {names.TUNNEL_LABEL: tunnel.metadata.name}},
        "policyTypes": ["Ingress"],
        "ingress": [
            {
                "from": [_peer(client) for client in clients],
                "ports": [{"port": port, "protocol": "TCP"} for port in listen],
            }
        ],
    }
    return _with_revision(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": _metadata(tunnel, names.forwarder(tunnel), {}),
            "spec": spec,
        }
    )


def _peer(client: Client) -> dict[str, Any]:
    if client.cidr is not None:
        return {"ipBlock": {"cidr": client.cidr}}
    return client.to_dict()


_EMPTY: tuple[object, ...] = (None, "", [], {})


def is_applied(intent: object, seen: object) -> bool:
    """Tell whether all of an intent is there; what the server or others added does not count.

    Nor does it when the server leaves out what is empty, as it does the labels of a selector of everything.
    """
    if intent == seen:
        # As most parts of an object are: to go through their values one by one takes several times as long.
        return True
    if isinstance(intent, Mapping):
        return isinstance(seen, Mapping) and all(
            is_applied(value, seen[name]) if name in seen else value in _EMPTY
            for name, value in intent.items()
        )
    if isinstance(intent, list):
        return (
            isinstance(seen, list)
            and len(intent) == len(seen)
            and all(is_applied(mine, theirs) for mine, theirs in zip(intent, seen, strict=True))
        )
    return False


def has_metadata(intent: Mapping[str, Any], seen: Child) -> bool:
    """Tell whether an object has the labels, annotations and owner of an intent, and maybe more of each."""
    mine, theirs = intent["metadata"], seen.body["metadata"]
    [owner] = mine["ownerReferences"]
    return (
        is_applied(mine["labels"], theirs.get("labels"))
        and is_applied(mine["annotations"], theirs.get("annotations"))
        and any(is_applied(owner, other) for other in theirs.get("ownerReferences") or ())
    )


def _metadata(tunnel: Tunnel, name: str, annotations: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": tunnel.metadata.namespace,
        "labels": names.labels(tunnel),
        "annotations": dict(annotations),
        "ownerReferences": [names.owner_reference(tunnel)],
    }


def _with_revision(manifest: dict[str, Any]) -> dict[str, Any]:
    metadata = manifest["metadata"]
    annotations = {**metadata["annotations"], REVISION_ANNOTATION: names.digest(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
