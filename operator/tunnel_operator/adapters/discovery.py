"""Whether the API server serves our resources yet, and which kinds of routes it serves.

kopf looks once, at its start: without rights over all CRDs it can not be told of one that comes later, and would
watch nothing for ever. `kubectl apply -k` makes CRDs and operator in the same moment. A kind that does not exist is
not watched at all, and the operator begins anew when one comes or goes.
"""

import asyncio
from collections.abc import Mapping

import structlog

from ..api import tunnel, tunnel_class
from ..api.base import GROUP, VERSION
from ..core.observed import Kind
from ..errors import TunnelError
from .kube_api import KubeApi, NotFoundError

RETRY_SECONDS = 1
ROUTES_SECONDS = 15
GONE_SECONDS = 5
"""How long discovery may take to know that a kind has gone."""

GATEWAY_GROUP = "gateway.networking.k8s.io"
ROUTE_PLURALS = {
    Kind.HTTP_ROUTE: "httproutes",
    Kind.TLS_ROUTE: "tlsroutes",
    Kind.TCP_ROUTE: "tcproutes",
}
ROUTE_VERSIONS = ("v1", "v1alpha3", "v1alpha2")
"""The versions that what we write is valid in, best first; most clusters serve TCPRoute as an alpha only."""

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


async def served_routes(api: KubeApi) -> Mapping[Kind, str]:
    """Return the kinds of routes that are served, each with its apiVersion. Raises TunnelError."""
    try:
        group = await api.request("GET", f"/apis/{GATEWAY_GROUP}")
    except NotFoundError:
        return {}
    offered = {version["version"] for version in group["versions"]}
    found: dict[Kind, str] = {}
    for version in ROUTE_VERSIONS:
        plurals = await _plurals(api, f"{GATEWAY_GROUP}/{version}") if version in offered else ()
        for kind, plural in ROUTE_PLURALS.items():
            if plural in plurals:
                found.setdefault(kind, f"{GATEWAY_GROUP}/{version}")
    return found


async def known_routes(api: KubeApi) -> Mapping[Kind, str]:
    """Return the kinds of routes that are served, once the API server answers."""
    while True:
        try:
            return await served_routes(api)
        except TunnelError as error:
            log.warning("routes.unknown", message=error.message)
            await asyncio.sleep(RETRY_SECONDS)


async def until_routes_change(
    api: KubeApi, known: Mapping[Kind, str], *, every: float | None = None
) -> None:
    """Return when the kinds of routes that are served are not the known ones any more."""
    found = known
    while found == known:
        await asyncio.sleep(ROUTES_SECONDS if every is None else every)
        found = await known_routes(api)
    log.info("routes.changed", before=sorted(known), now=sorted(found))


async def have_routes_gone(api: KubeApi, known: Mapping[Kind, str]) -> bool:
    """Tell whether a watch has failed for the reason that its kind is not there any more."""
    if not known:
        return False
    try:
        async with asyncio.timeout(GONE_SECONDS):
            await until_routes_change(api, known, every=RETRY_SECONDS)
    except TimeoutError:
        return False
    return True


async def _plurals(api: KubeApi, version: str) -> set[str]:
    try:
        resources = await api.request("GET", f"/apis/{version}")
    except NotFoundError:
        # It was there a moment ago.
        return set()
    return {resource["name"] for resource in resources["resources"]}
