"""The operator's manifests for the simulated Azure: the base, with what Azure's webhook would add in AKS."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .paths import write_atomically

TOKENS = "/var/run/secrets/azure/tokens"
AUTHORITY = "/etc/azure-sim"


def write_overlay(
    folder: Path,
    *,
    base: Path,
    endpoints: Mapping[str, Any],
    operator_image: str,
    forwarder_image: str,
) -> Path:
    """Write a kustomization over the base and return its folder, for `kubectl apply -k`.

    What differs from AKS is only the address of the token endpoint and the certificate authority.
    """
    name, _, tag = operator_image.rpartition(":")
    authority = Path(endpoints["caFile"]).read_text()
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "azure-sim-ca"},
        "data": {"ca.crt": authority},
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "tunnels-system",
        "resources": [os.path.relpath(base, folder), "ca.json"],
        "images": [{"name": "tunnel-operator", "newName": name, "newTag": tag}],
        "patches": [{"path": "deployment.json"}],
    }
    files = {
        "ca.json": config_map,
        "deployment.json": _deployment_patch(endpoints["identity"], forwarder_image, authority),
        "kustomization.yaml": kustomization,
    }
    for file, content in files.items():
        write_atomically(folder / file, json.dumps(content, indent=2))
    return folder


def _deployment_patch(
    identity: Mapping[str, str], forwarder_image: str, authority: str
) -> dict[str, Any]:
    environment = {
        "FORWARDER_IMAGE": forwarder_image,
        "AZURE_AUTHORITY_HOST": identity["authorityHost"],
        "AZURE_TENANT_ID": identity["tenantId"],
        "AZURE_CLIENT_ID": identity["clientId"],
        "AZURE_FEDERATED_TOKEN_FILE": f"{TOKENS}/azure-identity-token",
        "REQUESTS_CA_BUNDLE": f"{AUTHORITY}/ca.crt",
        "SSL_CERT_FILE": f"{AUTHORITY}/ca.crt",
    }
    digest = hashlib.sha256(authority.encode()).hexdigest()[:16]
    token = {
        "audience": "api://AzureADTokenExchange",
        "expirationSeconds": 3600,
        "path": "azure-identity-token",
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tunnel-operator"},
        "spec": {
            "template": {
                # A new authority makes new Pods.
                "metadata": {"annotations": {"tunnels.dev/azure-sim": digest}},
                "spec": {
                    "containers": [
                        {
                            "name": "operator",
                            "env": [{"name": k, "value": v} for k, v in environment.items()],
                            "volumeMounts": [
                                {"name": "azure-token", "mountPath": TOKENS, "readOnly": True},
                                {"name": "azure-ca", "mountPath": AUTHORITY, "readOnly": True},
                            ],
                        }
                    ],
                    "volumes": [
                        {
                            "name": "azure-token",
                            "projected": {"sources": [{"serviceAccountToken": token}]},
                        },
                        {"name": "azure-ca", "configMap": {"name": "azure-sim-ca"}},
                    ],
                },
            }
        },
    }
