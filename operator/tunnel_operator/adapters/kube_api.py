"""Requests to the Kubernetes API over the official asynchronous client, with errors classified."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import aiohttp
from kubernetes.aio import client

from ..api.reasons import Reason
from ..errors import ConflictError, Retryable, Terminal, TunnelError

DEADLINE_SECONDS = 15
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"


class KubeApi:
    """Sends one request at a time and returns its JSON.

    The paths are the callers': discovery would need a place to cache and rights that nothing else needs.
    """

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the answer's JSON. Raises TunnelError for every failure."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            request = await self._api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            response = await self._api.call_api(*request, _request_timeout=DEADLINE_SECONDS)
            data: bytes = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(
                Reason.UNAVAILABLE,
                f"The Kubernetes API can not be reached: {type(error).__name__}.",
            ) from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _classify(response.status, data)
        answer: dict[str, Any] = json.loads(data)
        return answer


class NotFoundError(Retryable):
    """There is no such object."""


def _classify(status: int, data: bytes) -> TunnelError:
    try:
        message = str(json.loads(data).get("message") or "")
    except (ValueError, AttributeError):
        message = ""
    text = f"The Kubernetes API answered {status}: {message}"
    match status:
        case HTTPStatus.NOT_FOUND:
            return NotFoundError(Reason.NOT_FOUND, text)
        case HTTPStatus.CONFLICT:
            return ConflictError(Reason.UNAVAILABLE, text)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            # Not for a person to mend, as far as can be told: a quota that is used up now and a namespace
            # that has just been made and lacks its service account are refused in the same way.
            return Retryable(Reason.UNAUTHORIZED, text)
        case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
            return Terminal(Reason.REJECTED, text)
        case _:
            return Retryable(Reason.UNAVAILABLE, text)
