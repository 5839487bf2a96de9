"""Azure Relay's management, over azure-mgmt-relay."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.mgmt.relay.aio import RelayAPIMgmtClient
from azure.mgmt.relay.models import (
    AuthorizationRule,
    AuthorizationRuleProperties,
    HybridConnection,
    HybridConnectionProperties,
)

from tunnel_forwarder.protocol.secret import Secret

from ..api.keys import Key
from ..api.reasons import Reason
from ..api.tunnel_class import Relay, TunnelClassSpec
from ..core import observed
from ..core.actions import EnsureHybridConnection, RetainHybridConnection
from ..core.sweep import Marked
from ..errors import Retryable, Terminal
from .azure_errors import classify_arm, classify_no_token
from .calls import Terms, counted
from .marks import Mark, read_mark, write_mark
from .unreached import unreached

DEADLINE_SECONDS = 30

Connect = Callable[[Relay], RelayAPIMgmtClient]
"""Returns the client for a class's Azure."""

T = TypeVar("T")

LISTING_SECONDS = 60
"""How old a list of all hybrid connections may be that tunnels are looked up in."""


@dataclass(slots=True)
class _Listing:
    """What a namespace held when it was last listed."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float | None = None
    entries: Mapping[str, observed.HybridConnection] = field(default_factory=dict)


class ArmRelay:
    """Hybrid connections and their rules. Provides runtime.ports.Relay."""

    def __init__(
        self,
        connect: Connect,
        terms: Terms,
        *,
        cluster_id: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster_id = cluster_id
        self._terms = terms
        self._monotonic = monotonic
        self._connect = connect
        self._listings: dict[tuple[str, ...], _Listing] = {}
        self._clients: dict[tuple[str, str, str], RelayAPIMgmtClient] = {}

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()

    async def observe(
        self, klass: TunnelClassSpec, name: str, *, with_rules: bool
    ) -> observed.HybridConnection | None:
        """Return what there is, changing nothing; None when there is nothing.

        Without rules it comes out of a list of the whole namespace, which all tunnels share. What is not
        in there may have been made since, and is asked for by itself.
        """
        if not with_rules:
            found = (await self._listed(klass)).get(name)
            if found is not None:
                return found
        hybrid_connections, place = self._at(klass)
        async with self._call("observe", name):
            connection = await _or_none(hybrid_connections.get(*place, name))
        if connection is None:
            return None
        async with self._call("observe-rules", name):
            rules = await _or_none(
                _rights(hybrid_connections.list_authorization_rules(*place, name))
            )
        return None if rules is None else self._seen(connection, name, rules)

    async def ensure(
        self, klass: TunnelClassSpec, wanted: EnsureHybridConnection
    ) -> observed.HybridConnection | None:
        """Make the hybrid connection and its rules, or put them right."""
        hybrid_connections, place = self._at(klass)
        connection = self._marked(wanted, is_retained=False)
        count = len(wanted.rules)
        # Reading the key of each rule comes next.
        async with self._call("ensure", wanted.name, requests=1 + count, ahead=count):
            made = None
            if not wanted.is_borrowed:
                made = await hybrid_connections.create_or_update(*place, wanted.name, connection)
            async with asyncio.TaskGroup() as group:
                for rule, right in wanted.rules:
                    body = AuthorizationRule(properties=AuthorizationRuleProperties(rights=[right]))
                    group.create_task(
                        hybrid_connections.create_or_update_authorization_rule(
                            *place, wanted.name, rule, body
                        )
                    )
        if made is None:
            return None
        if made.requires_client_authorization is False:
            # Whether it can be changed is not documented. To try again at once would never end.
            raise Terminal(
                Reason.REJECTED,
                f"Azure lets senders without a token use hybrid connection {wanted.name!r}, and did not "
                "change that. Delete it in Azure, and it is made anew.",
            )
        rules = {name: frozenset({right}) for name, right in wanted.rules}
        return self._seen(made, wanted.name, rules)

    async def retain(self, klass: TunnelClassSpec, wanted: RetainHybridConnection) -> None:
        """Remove the rules, then mark the hybrid connection as kept."""
        await self.delete_rules(klass, wanted.name, wanted.rules)
        hybrid_connections, place = self._at(klass)
        connection = self._marked(wanted, is_retained=True)
        async with self._call("retain", wanted.name):
            await hybrid_connections.create_or_update(*place, wanted.name, connection)

    async def marked(self, klass: TunnelClassSpec) -> list[Marked]:
        """Return the hybrid connections of a class's namespace that bear an ownership mark."""
        found = []
        async for entry in self._entries(klass):
            mark = read_mark(entry.user_metadata)
            if mark is not None and entry.name and entry.created_at is not None:
                found.append(
                    Marked(
                        entry.name,
                        Key(*mark.tunnel.split("/", 1)),
                        mark.uid,
                        mark.cluster,
                        entry.created_at,
                        mark.is_retained,
                    )
                )
        return found

    async def delete(self, klass: TunnelClassSpec, name: str) -> None:
        """Remove the hybrid connection; removed already counts as done."""
        hybrid_connections, place = self._at(klass)
        async with self._call("delete", name):
            await _or_none(hybrid_connections.delete(*place, name))

    async def delete_rules(self, klass: TunnelClassSpec, name: str, rules: tuple[str, ...]) -> None:
        """Remove rules of a hybrid connection; removed already counts as done."""
        hybrid_connections, place = self._at(klass)
        for rule in rules:
            async with self._call("delete-rule", name):
                await _or_none(hybrid_connections.delete_authorization_rule(*place, name, rule))

    async def key(self, klass: TunnelClassSpec, name: str, rule: str) -> Secret:
        """Return the key of one of the hybrid connection's rules."""
        hybrid_connections, place = self._at(klass)
        async with self._call("key", name):
            keys = await _or_none(hybrid_connections.list_keys(*place, name, rule))
        if keys is None:
            raise Retryable(
                Reason.NOT_FOUND, f"The rule {rule!r} of the hybrid connection is gone."
            )
        if not keys.primary_key:
            raise Retryable(Reason.NOT_FOUND, f"The rule {rule!r} has no key yet.")
        return Secret(keys.primary_key)

    async def _listed(self, klass: TunnelClassSpec) -> Mapping[str, observed.HybridConnection]:
        """Return all of a namespace, as it was a minute ago at most; many who ask at once cause one list."""
        relay = klass.relay
        place = (relay.resource_manager_endpoint, relay.subscription_id, relay.resource_group)
        listing = self._listings.setdefault((*place, relay.namespace), _Listing())
        async with listing.lock:
            now = self._monotonic()
            if listing.at is None or now >= listing.at + LISTING_SECONDS:
                listing.entries = {
                    name: self._seen(entry, name, None)
                    async for entry in self._entries(klass)
                    if (name := entry.name)
                }
                listing.at = now
            return listing.entries

    async def _entries(self, klass: TunnelClassSpec) -> AsyncIterator[HybridConnection]:
        """Yield all hybrid connections of a namespace; each page is a call of its own."""
        hybrid_connections, place = self._at(klass)
        pages = hybrid_connections.list_by_namespace(*place).by_page()
        while True:
            async with self._call("list", klass.relay.namespace):
                try:
                    page = [entry async for entry in await anext(pages)]
                except StopAsyncIteration:
                    return
            for entry in page:
                yield entry

    def _seen(
        self, found: HybridConnection, name: str, rules: Mapping[str, frozenset[str]] | None
    ) -> observed.HybridConnection:
        # Each reading of a field makes the properties anew, which is most of what a list of many costs us.
        properties = found.properties or HybridConnectionProperties()
        mark = read_mark(properties.user_metadata)
        return observed.HybridConnection(
            name=name,
            listener_count=properties.listener_count or 0,
            owner=mark.uid if mark else None,
            owner_name=mark.tunnel if mark else None,
            rules=rules,
            is_retained=bool(mark and mark.is_retained and mark.cluster == self._cluster_id),
            requires_token=found.requires_client_authorization is not False,
        )

    def _marked(
        self, wanted: EnsureHybridConnection | RetainHybridConnection, *, is_retained: bool
    ) -> HybridConnection:
        mark = Mark(
            tunnel=wanted.tunnel,
            uid=wanted.owner,
            cluster=self._cluster_id,
            correlation_id=wanted.correlation_id,
            is_retained=is_retained,
        )
        # Always sent: whether it can be changed later, and its default, are not documented.
        properties = HybridConnectionProperties(
            requires_client_authorization=True, user_metadata=write_mark(mark)
        )
        return HybridConnection(properties=properties)

    def _at(self, klass: TunnelClassSpec) -> tuple[Any, tuple[str, str]]:
        """Return the operations for a class's namespace, and where that is."""
        relay = klass.relay
        address = (
            relay.subscription_id,
            relay.resource_manager_endpoint,
            relay.resource_manager_audience,
        )
        if address not in self._clients:
            self._clients[address] = self._connect(relay)
        place = (relay.resource_group, relay.namespace)
        return self._clients[address].hybrid_connections, place

    @asynccontextmanager
    async def _call(
        self, verb: str, who: str, requests: int = 1, *, ahead: int = 0
    ) -> AsyncIterator[None]:
        """Wait for the budget, see that we may still act, set the deadline, count the call, let no exception of the SDK out."""
        await self._terms.budget.take(who, requests, ahead=ahead)
        self._terms.may_act()
        try:
            with counted(self._terms.observe, "arm", verb):
                async with asyncio.timeout(DEADLINE_SECONDS):
                    yield
        except (ExceptionGroup, AzureError, OSError) as error:
            first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            meaning = _classify(first)
            self._terms.heed(meaning)
            raise meaning from error


async def _or_none(call: Awaitable[T]) -> T | None:
    """Return the answer; None when what was asked for is not there, but all around it is."""
    try:
        return await call
    except ResourceNotFoundError as error:
        if _is_missing_parent(error):
            raise
        return None


async def _rights(rules: AsyncIterator[AuthorizationRule]) -> dict[str, frozenset[str]]:
    """Return the rights of each rule, as plain words: the SDK names those that it knows."""
    return {
        rule.name: frozenset(getattr(right, "value", right) for right in rule.rights or ())
        async for rule in rules
        if rule.name
    }


def _classify(error: Exception) -> Exception:
    match error:
        case ClientAuthenticationError(status_code=None | HTTPStatus.BAD_REQUEST as status):
            # Entra ID's answer, or none; a 401 in this exception is Azure Resource Manager's own.
            return classify_no_token(status)
        case HttpResponseError(status_code=int(status)):
            code = getattr(error.error, "code", None) or ""
            return classify_arm(status, code, _retry_after(error))
        case TimeoutError():
            # The call asks for a token, too, when the last one ends soon.
            text = f"Azure Resource Manager, or Entra ID before it, did not answer within {DEADLINE_SECONDS} s."
            return Retryable(Reason.UNAVAILABLE, text)
        case AzureError() | OSError():
            return unreached(error, "Azure Resource Manager")
        case _:
            return error


def _retry_after(error: HttpResponseError) -> timedelta | None:
    headers: Mapping[str, str] = getattr(error.response, "headers", {})
    text = headers.get("Retry-After", "")
    return timedelta(seconds=int(text)) if text.isdecimal() else None


def _is_missing_parent(error: HttpResponseError) -> bool:
    """Tell whether it is the namespace or what is around it that is missing."""
    if error.status_code != HTTPStatus.NOT_FOUND:
        return False
    code = getattr(error.error, "code", None) or ""
    return code in ("ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound")
