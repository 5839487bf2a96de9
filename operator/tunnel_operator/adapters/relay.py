"""Azure Relay's management, over azure-mgmt-relay.

The SDK's own retries are off: up to ten of them hide in one call, POSTs among them, and the queue tries
again with the budget of all tunnels in mind.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from azure.core.credentials_async import AsyncTokenCredential
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
from ..api.tunnel_class import TunnelClassSpec
from ..core import observed
from ..core.actions import EnsureHybridConnection, RetainHybridConnection
from ..core.sweep import Marked
from ..errors import Retryable, Terminal
from .azure_errors import classify_arm
from .budget import Budget
from .calls import CallObserver, counted
from .marks import Mark, read_mark, write_mark

API_VERSION = "2024-01-01"
"""Pinned: the SDK's default is newer than what every cloud offers."""

DEADLINE_SECONDS = 30


class ArmRelay:
    """Hybrid connections and their rules. Provides runtime.ports.Relay."""

    def __init__(
        self,
        credential: AsyncTokenCredential,
        budget: Budget,
        observe: CallObserver,
        *,
        cluster_id: str = "",
    ) -> None:
        self._cluster_id = cluster_id
        self._credential = credential
        self._budget = budget
        self._observe = observe
        self._clients: dict[tuple[str, str, str], RelayAPIMgmtClient] = {}

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()

    async def observe(self, klass: TunnelClassSpec, name: str) -> observed.HybridConnection | None:
        """Return what there is, changing nothing; None when there is nothing."""
        hybrid_connections, place = self._at(klass)
        async with self._call("observe", requests=2):
            try:
                found = await hybrid_connections.get(*place, name)
                rules = [
                    rule.name
                    async for rule in hybrid_connections.list_authorization_rules(*place, name)
                ]
            except ResourceNotFoundError as error:
                if _is_missing_parent(error):
                    raise
                return None
        mark = read_mark(found.user_metadata)
        return observed.HybridConnection(
            name=name,
            listener_count=found.listener_count or 0,
            owner=mark.uid if mark else None,
            owner_name=mark.tunnel if mark else None,
            rules=frozenset(rule for rule in rules if rule),
            is_retained=bool(mark and mark.is_retained and mark.cluster == self._cluster_id),
        )

    async def ensure(self, klass: TunnelClassSpec, wanted: EnsureHybridConnection) -> None:
        """Make the hybrid connection and its rules, or put them right."""
        hybrid_connections, place = self._at(klass)
        connection = self._marked(wanted, is_retained=False)
        async with self._call("ensure", requests=1 + len(wanted.rules)):
            if not wanted.is_borrowed:
                await hybrid_connections.create_or_update(*place, wanted.name, connection)
            async with asyncio.TaskGroup() as group:
                for rule, right in wanted.rules:
                    body = AuthorizationRule(properties=AuthorizationRuleProperties(rights=[right]))
                    group.create_task(
                        hybrid_connections.create_or_update_authorization_rule(
                            *place, wanted.name, rule, body
                        )
                    )

    async def retain(self, klass: TunnelClassSpec, wanted: RetainHybridConnection) -> None:
        """Remove the rules, then mark the hybrid connection as kept."""
        await self.delete_rules(klass, wanted.name, wanted.rules)
        hybrid_connections, place = self._at(klass)
        connection = self._marked(wanted, is_retained=True)
        async with self._call("retain"):
            await hybrid_connections.create_or_update(*place, wanted.name, connection)

    async def marked(self, klass: TunnelClassSpec) -> list[Marked]:
        """Return the hybrid connections of a class's namespace that bear an ownership mark."""
        hybrid_connections, place = self._at(klass)
        found = []
        async with self._call("list"):
            async for entry in hybrid_connections.list_by_namespace(*place):
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
        async with self._call("delete"):
            try:
                await hybrid_connections.delete(*place, name)
            except ResourceNotFoundError as error:
                if _is_missing_parent(error):
                    raise

    async def delete_rules(self, klass: TunnelClassSpec, name: str, rules: tuple[str, ...]) -> None:
        """Remove rules of a hybrid connection; removed already counts as done."""
        hybrid_connections, place = self._at(klass)
        for rule in rules:
            async with self._call("delete-rule"):
                try:
                    await hybrid_connections.delete_authorization_rule(*place, name, rule)
                except ResourceNotFoundError as error:
                    if _is_missing_parent(error):
                        raise

    async def key(self, klass: TunnelClassSpec, name: str, rule: str) -> Secret:
        """Return the key of one of the hybrid connection's rules."""
        hybrid_connections, place = self._at(klass)
        async with self._call("key"):
            try:
                keys = await hybrid_connections.list_keys(*place, name, rule)
            except ResourceNotFoundError as error:
                if _is_missing_parent(error):
                    raise
                raise Retryable(
                    Reason.NOT_FOUND, f"The rule {rule!r} of the hybrid connection is gone."
                ) from error
        if not keys.primary_key:
            raise Retryable(Reason.NOT_FOUND, f"The rule {rule!r} has no key yet.")
        return Secret(keys.primary_key)

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
            subscription, endpoint, audience = address
            self._clients[address] = RelayAPIMgmtClient(
                self._credential,
                subscription,
                base_url=endpoint,
                api_version=API_VERSION,
                credential_scopes=[audience],
                retry_total=0,
            )
        place = (relay.resource_group, relay.namespace)
        return self._clients[address].hybrid_connections, place

    @asynccontextmanager
    async def _call(self, verb: str, requests: int = 1) -> AsyncIterator[None]:
        """Wait for the budget, set the deadline, count the call, let no exception of the SDK out."""
        await self._budget.take(requests)
        try:
            with counted(self._observe, "arm", verb):
                async with asyncio.timeout(DEADLINE_SECONDS):
                    yield
        except ExceptionGroup as group:
            raise _classify(group.exceptions[0]) from group
        except (AzureError, TimeoutError) as error:
            raise _classify(error) from error


def _classify(error: Exception) -> Retryable | Terminal | Exception:
    match error:
        case HttpResponseError(status_code=int(status)):
            code = getattr(error.error, "code", None) or ""
            return classify_arm(status, code, _retry_after(error))
        case ClientAuthenticationError():
            return Terminal(
                Reason.UNAUTHORIZED,
                "Entra ID gave the operator no token: check its workload identity.",
            )
        case TimeoutError():
            text = f"Azure Resource Manager did not answer within {DEADLINE_SECONDS} s."
            return Retryable(Reason.UNAVAILABLE, text)
        case AzureError():
            return Retryable(
                Reason.UNAVAILABLE,
                f"Azure Resource Manager can not be reached: {type(error).__name__}.",
            )
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
