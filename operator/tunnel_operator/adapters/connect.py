"""How the operator reaches the Kubernetes API: as its Pod's service account, or by a kubeconfig outside."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import kopf
from kubernetes.aio import client, config

CONNECTIONS = 16
"""How many requests to the API server are under way at once, whatever the number of workers.

Each costs asyncio a quarter of a MiB (sslproto.py), and this many keep one processor busy.
"""


@dataclass(frozen=True, slots=True)
class Connection:
    """The official client for our reads and writes, and the same way in for kopf's watches.

    `login` gives the newest token each time: that of a service account is changed every hour. The Lease has
    a client of its own, as it may not wait for a connection behind all that a large fleet has to ask.
    """

    api: client.ApiClient
    lease: client.ApiClient
    login: Callable[[], kopf.ConnectionInfo]


async def connect() -> Connection:
    """Return the way to the API. Raises ConfigException of the client when there is none."""
    configuration = client.Configuration()
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    else:
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            client_configuration=configuration, config_file=os.environ.get("KUBECONFIG")
        )
    configuration.connection_pool_maxsize = CONNECTIONS
    # As in the watches, neither a proxy of the environment, which is meant for Azure, nor a .netrc: looking
    # for both takes two threads for each request. A kubeconfig's own proxy-url is obeyed.
    configuration.client_session_kwargs = {"trust_env": False}

    def login() -> kopf.ConnectionInfo:
        refresh = configuration.refresh_api_key_hook
        if refresh is not None:
            refresh(configuration)
        return _login(configuration)

    return Connection(client.ApiClient(configuration), client.ApiClient(configuration), login)


def _login(configuration: client.Configuration) -> kopf.ConnectionInfo:
    token = str(configuration.api_key.get("BearerToken") or "")
    scheme, _, secret = token.rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=secret or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        proxy_url=configuration.proxy or None,
    )
