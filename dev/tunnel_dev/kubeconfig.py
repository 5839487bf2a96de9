"""Kubeconfigs that hold their certificates, so that one file is all a client needs."""

import base64
import json
from pathlib import Path

from .paths import write_atomically
from .pki import Pki


def write(path: Path, *, server: str, pki: Pki, identity: str) -> Path:
    """Write the kubeconfig of one identity; only its owner may read it."""
    write_atomically(path, make(server=server, pki=pki, identity=identity), mode=0o600)
    return path


def make(*, server: str, pki: Pki, identity: str) -> str:
    """JSON, which is YAML too."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "edge-tunnels",
            "clusters": [
                {
                    "name": "edge-tunnels",
                    "cluster": {"server": server, "certificate-authority-data": _data(pki.ca)},
                }
            ],
            "users": [
                {
                    "name": identity,
                    "user": {
                        "client-certificate-data": _data(pki.certificate(identity)),
                        "client-key-data": _data(pki.key(identity)),
                    },
                }
            ],
            "contexts": [
                {
                    "name": "edge-tunnels",
                    "context": {"cluster": "edge-tunnels", "user": identity},
                }
            ],
        },
        indent=2,
    )


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
