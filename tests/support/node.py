"""A node without containers: it gives Pods the status that a kubelet would."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config


@asynccontextmanager
async def pretend_node(
    kubeconfig: Path, namespace: str, is_ready: Callable[[], bool]
) -> AsyncIterator[None]:
    """Make Pods of a namespace Running, and Ready when `is_ready` says so, while inside."""
    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        task = asyncio.create_task(_run(client.CoreV1Api(api), namespace, is_ready))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _run(core: client.CoreV1Api, namespace: str, is_ready: Callable[[], bool]) -> None:
    while True:
        pods = await core.list_namespaced_pod(namespace)
        for pod in pods.items:
            try:
                await _run_pod(core, pod, "True" if is_ready() else "False")
            except client.ApiException as error:
                # Somebody else may have removed it since it was listed.
                if error.status != HTTPStatus.NOT_FOUND:
                    raise
        await asyncio.sleep(0.1)


async def _run_pod(core: client.CoreV1Api, pod: Any, wanted: str) -> None:
    name, namespace = pod.metadata.name, pod.metadata.namespace
    if pod.metadata.deletion_timestamp is not None:
        # Nothing runs, so nothing has to end first.
        await core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
        return
    has = {c.type: c.status for c in pod.status.conditions or ()}
    if has.get("Ready") != wanted:
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": wanted}]}
        await core.patch_namespaced_pod_status(name, namespace, {"status": status})
