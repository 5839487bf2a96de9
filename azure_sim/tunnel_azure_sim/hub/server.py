"""The REST API over HTTPS."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web

from ..web import Handler
from . import websocket as websockets
from .errors import Code, HubError
from .methods import MAX_PAYLOAD
from .service import Answer, HubService, Request

MAX_BODY = MAX_PAYLOAD + 16 * 1024

_log = structlog.get_logger(__name__)


def make_handler(service: HubService, websocket: Handler) -> Handler:
    """Return the handler for all requests of this plane: WebSockets of devices, else the REST API."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == websockets.PATH:
            return await websocket(request)
        try:
            return _respond(await service.handle(await _read(request)))
        except HubError as error:
            _log.info("hub.refused", error=error.code.value, reason=error.sentence)
            tracking_id = secrets.token_hex(16)
            return web.json_response(
                error.body(tracking_id=tracking_id, now=service.now()),
                status=error.code.status,
                headers=error.headers,
            )

    return handle


async def _read(request: web.Request) -> Request:
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise HubError(Code.MessageTooLarge, "The request's body is too large.") from None

    def body() -> Mapping[str, Any]:
        try:
            value = json.loads(raw)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise HubError(Code.ArgumentInvalid, "The request's body is not a JSON object.")
        return value

    return Request(
        method=request.method,
        raw_path=request.rel_url.raw_path,
        query=request.query,
        headers=request.headers,
        body=body,
    )


def _respond(answer: Answer) -> web.Response:
    if answer.body is None:
        return web.Response(status=answer.status)
    return web.json_response(answer.body, status=answer.status, headers=answer.headers)
