"""Events of events.k8s.io/v1. The loop tells of transitions only, and of none too often."""

import contextlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ..api.base import API_VERSION
from ..api.reasons import Reason
from ..api.tunnel import KIND, Tunnel
from ..core.notices import Notice
from ..errors import ConflictError, Retryable
from .kube_api import KubeApi

CONTROLLER = "tunnels.dev/operator"
MAX_NOTE = 1024
"""The API server refuses a longer note (events.k8s.io/v1, `note`)."""


class KubeEvents:
    """Records Events. Provides runtime.ports.Events. `instance` tells one operator from another."""

    def __init__(self, api: KubeApi, *, instance: str, clock: Callable[[], datetime]) -> None:
        self._api = api
        self._instance = instance
        self._clock = clock

    async def record(self, tunnel: Tunnel, notice: Notice) -> None:
        """Create one Event about a Tunnel. Raises TunnelError.

        No later pass tells of it. So it is tried once more at once where the API could not be had: the status
        before it may have been the last that a connection carried.
        """
        body = self._body(tunnel, notice)
        try:
            await self._create(body)
        except Retryable as error:
            if error.reason is not Reason.UNAVAILABLE:
                raise
            with contextlib.suppress(ConflictError):  # the first attempt had its effect
                await self._create(body)

    async def _create(self, body: dict[str, Any]) -> None:
        namespace = body["metadata"]["namespace"]
        path = f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
        await self._api.request("POST", path, body=body)

    def _body(self, tunnel: Tunnel, notice: Notice) -> dict[str, Any]:
        meta = tunnel.metadata
        moment = self._clock().astimezone(UTC)
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta.name}.{secrets.token_hex(8)}",
                "namespace": meta.namespace,
            },
            "eventTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": notice.severity.value,
            "reason": notice.reason.value,
            "action": notice.action,
            "note": notice.message[:MAX_NOTE],
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": meta.name,
                "namespace": meta.namespace,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
        }
