"""Who the operator is in Azure. It holds no secret of its own: Kubernetes vouches for it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from azure.core.credentials import TokenCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.identity import DefaultAzureCredential, WorkloadIdentityCredential
from azure.identity.aio import DefaultAzureCredential as AsyncDefaultAzureCredential
from azure.identity.aio import WorkloadIdentityCredential as AsyncWorkloadIdentityCredential

TOKEN_FILE_VARIABLE = "AZURE_FEDERATED_TOKEN_FILE"  # noqa: S105 - the name of a variable


@dataclass(frozen=True, slots=True)
class Credentials:
    """The same identity twice, since azure-iot-hub blocks and azure-mgmt-relay does not."""

    blocking: TokenCredential
    asynchronous: AsyncTokenCredential

    async def close(self) -> None:
        """Close the connections of both."""
        await self.asynchronous.close()
        close = getattr(self.blocking, "close", None)
        if close is not None:
            close()


def make_credentials(environ: Mapping[str, str] = os.environ) -> Credentials:
    """Return the workload identity where the Pod has one, else what the Azure SDK finds.

    The chain is for a developer's own machine. In a cluster one way only is taken, so that a missing token
    file does not become a managed identity with other rights.
    """
    if TOKEN_FILE_VARIABLE in environ:
        return Credentials(WorkloadIdentityCredential(), AsyncWorkloadIdentityCredential())
    return Credentials(DefaultAzureCredential(), AsyncDefaultAzureCredential())
