"""A node without containers: it gives Pods the status that a kubelet would."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from kubernetes.aio import client, config

IsReady = Callable[[client.V1Pod], bool]


@asynccontextmanager
async def pretend_node(kubeconfig: Path, namespace: str, is_ready: IsReady) -> AsyncIterator[None]:
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


async def _run(core: client.CoreV1Api, namespace: str, is_ready: IsReady) -> None:
    while True:
        # As a kubelet, it outlives an API server that is away, and Pods that go while it looks at them.
        with contextlib.suppress(client.ApiException, aiohttp.ClientError, TimeoutError):
            pods = await core.list_namespaced_pod(namespace, _request_timeout=5)
            for pod in pods.items:
                await _tend(core, pod, is_ready)
        await asyncio.sleep(0.1)


async def _tend(core: client.CoreV1Api, pod: client.V1Pod, is_ready: IsReady) -> None:
    name, namespace = pod.metadata.name, pod.metadata.namespace
    if pod.metadata.deletion_timestamp is not None:
        # Nothing runs, so nothing has to end first.
        await core.delete_namespaced_pod(
            name, namespace, grace_period_seconds=0, _request_timeout=5
        )
        return
    wanted = "True" if is_ready(pod) else "False"
    has = {c.type: c.status for c in pod.status.conditions or ()}
    if has.get("Ready") != wanted:
        body = {
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": wanted}],
            }
        }
        await core.patch_namespaced_pod_status(name, namespace, body, _request_timeout=5)
