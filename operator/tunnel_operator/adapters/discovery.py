"""Whether the API server serves our resources yet.

kopf looks once, at its start: without rights over all CRDs it can not be told of one that comes later, and would
watch nothing for ever. `kubectl apply -k` makes CRDs and operator in the same moment.
"""

import asyncio

import structlog

from ..api import tunnel, tunnel_class
from ..api.base import GROUP, VERSION
from ..errors import TunnelError
from .kube_api import KubeApi

RETRY_SECONDS = 1

log = structlog.get_logger(__name__)


async def wait_until_served(api: KubeApi, *, with_classes: bool) -> None:
    """Return once the resources that are watched are in the API server's discovery documents."""
    wanted = {tunnel.PLURAL} | ({tunnel_class.PLURAL} if with_classes else set())
    told = False
    while not wanted <= await _served(api):
        if not told:
            log.warning("crds.missing", wanted=sorted(wanted))
            told = True
        await asyncio.sleep(RETRY_SECONDS)


async def _served(api: KubeApi) -> set[str]:
    """Return the plurals of our group, if the list of groups has it, too: kopf reads both."""
    try:
        groups = await api.request("GET", "/apis")
        if GROUP not in {group["name"] for group in groups["groups"]}:
            return set()
        resources = await api.request("GET", f"/apis/{GROUP}/{VERSION}")
    except TunnelError as error:
        log.warning("crds.unknown", message=error.message)
        return set()
    return {resource["name"] for resource in resources["resources"]}
