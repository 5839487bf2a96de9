"""What leads to the forwarder: the Service, the Ingress and the routes, and whether they are in effect."""

from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from ..api.conditions import Finding
from ..api.reasons import ConditionType, Reason
from ..api.tunnel import Tunnel
from .manifests import make_ingress, make_route, make_service
from .observed import Child, Kind, Observed, Step
from .terms import RouteTerms, Terms

ROUTES = (Kind.HTTP_ROUTE, Kind.TLS_ROUTE, Kind.TCP_ROUTE)

WAYS = (Kind.SERVICE, Kind.INGRESS, *ROUTES)
"""The kinds of objects that lead to the forwarder, in the order in which they are made."""

ALTERED = (
    "The {kind} does not stay as it is written: something in the cluster, such as an admission webhook, "
    "changes it."
)

Trouble = tuple[Reason, str]


def wanted_objects(
    tunnel: Tunnel, terms: Terms, observed: Observed
) -> Mapping[Kind, dict[str, Any]]:
    """Return the objects that are wanted, but for kinds that the cluster does not serve."""
    wanted = {Kind.SERVICE: make_service(tunnel)}
    if terms.ingress is not None:
        wanted[Kind.INGRESS] = make_ingress(tunnel, terms, terms.ingress)
    for route in terms.routes:
        if route.kind in observed.routes:
            wanted[route.kind] = make_route(tunnel, route, observed.routes[route.kind])
    return wanted


def find_exposed(
    tunnel: Tunnel, terms: Terms, observed: Observed, unapplied: Container[Kind]
) -> Finding:
    """Say whether all ways to the forwarder are there, and whether those who carry them out do so.

    `unapplied` are the kinds of which an object is wanted and not there as it is wanted.
    """
    kind = ConditionType.EXPOSED
    troubles = chain(
        _missing(observed, unapplied),
        _unserved(terms, observed),
        _without_address(tunnel, terms, observed),
        _not_accepted(terms, observed),
    )
    for reason, message in troubles:
        return Finding(type=kind, status="False", reason=reason, message=message)
    return Finding(type=kind, status="True", reason=Reason.EXPOSED)


def _missing(observed: Observed, unapplied: Container[Kind]) -> Iterator[Trouble]:
    failure = observed.failures.get(Step.CHILDREN)
    for kind in WAYS:
        if kind in unapplied:
            if failure:
                yield failure.reason, failure.message
            elif kind in observed.held:
                yield Reason.REJECTED, ALTERED.format(kind=kind)
            else:
                yield Reason.OPENING, f"Making the {kind}."


def _unserved(terms: Terms, observed: Observed) -> Iterator[Trouble]:
    for route in terms.routes:
        if route.kind not in observed.routes:
            message = (
                f"The cluster does not know the kind {route.kind} of the Gateway API. Install its resource "
                "definitions (TLSRoute and TCPRoute may be in the experimental channel only), or leave "
                "this route out."
            )
            yield Reason.GATEWAY_NOT_INSTALLED, message


def _without_address(tunnel: Tunnel, terms: Terms, observed: Observed) -> Iterator[Trouble]:
    wanted = [Kind.SERVICE] if tunnel.spec.expose.service.type == "LoadBalancer" else []
    wanted += [Kind.INGRESS] if terms.ingress is not None else []
    for kind in wanted:
        child = observed.children.get(kind)
        if child is not None and not _has_address(child):
            message = f"The {kind} has no address yet; its controller has to give it one."
            yield Reason.WAITING_FOR_ADDRESS, message


def _has_address(child: Child) -> bool:
    balancer = (child.body.get("status") or {}).get("loadBalancer") or {}
    return bool(balancer.get("ingress"))


def _not_accepted(terms: Terms, observed: Observed) -> Iterator[Trouble]:
    for route in terms.routes:
        child = observed.children.get(route.kind)
        if child is not None:
            yield from _route_trouble(route, child)


def _route_trouble(route: RouteTerms, child: Child) -> Iterator[Trouble]:
    """Yield what the Gateway's controller says against a route, or that it has said nothing of it yet."""
    where = f"Gateway {str(route.gateway)!r}"
    conditions = list(_conditions(route, child))
    for condition in conditions:
        if condition["status"] != "True":
            said = str(condition.get("message") or "").rstrip(".")
            reason = condition.get("reason") or condition["type"]
            text = f"{reason} ({said})" if said else reason
            message = f"{where} does not carry the {route.kind}: {text}."
            yield Reason.ROUTE_NOT_ACCEPTED, message
    if not {"Accepted", "ResolvedRefs"} <= {condition["type"] for condition in conditions}:
        message = (
            f"{where} has not said yet whether it carries the {route.kind}: is the Gateway there, and "
            "does its controller run?"
        )
        yield Reason.WAITING_FOR_GATEWAY, message


def _conditions(route: RouteTerms, child: Child) -> Iterable[Mapping[str, Any]]:
    """Yield the two conditions that every controller sets, as far as they are about the newest route."""
    generation = child.body["metadata"].get("generation", 0)
    for parent in (child.body.get("status") or {}).get("parents") or ():
        reference = parent["parentRef"]
        if (reference.get("namespace"), reference["name"]) != (
            route.gateway.namespace,
            route.gateway.name,
        ):
            continue
        for condition in parent.get("conditions") or ():
            is_new = condition.get("observedGeneration", generation) >= generation
            if condition["type"] in ("Accepted", "ResolvedRefs") and is_new:
                yield condition
