"""ARM over HTTPS."""

import uuid

from aiohttp import web

from ..web import Handler
from .plane import ArmPlane, Call
from .service import Answer

MAX_BODY = 64 * 1024


def make_handler(plane: ArmPlane) -> Handler:
    """Return the handler for all requests of this plane."""

    async def handle(request: web.Request) -> web.Response:
        call = Call(
            request.method,
            request.host,
            request.rel_url.raw_path,
            request.query,
            request.headers.get("Authorization", ""),
            await _body(request),
        )
        return _respond(plane.answer(call))

    return handle


async def _body(request: web.Request) -> bytes | None:
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


def _respond(answer: Answer) -> web.Response:
    headers = {"x-ms-request-id": str(uuid.uuid4()), **answer.headers}
    if answer.status == web.HTTPUnauthorized.status_code:
        headers["WWW-Authenticate"] = "Bearer"
    if answer.body is None:
        return web.Response(status=answer.status, headers=headers)
    return web.json_response(answer.body, status=answer.status, headers=headers)
