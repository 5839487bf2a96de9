"""The token endpoint over HTTPS."""

from aiohttp import web

from ..web import Handler
from .service import IdentityService

MAX_BODY = 64 * 1024


def make_handler(service: IdentityService) -> Handler:
    """Return the handler for all requests of this plane."""

    async def handle(request: web.Request) -> web.Response:
        form = await request.post()
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        answer = service.handle(request.method, request.path, fields)
        return web.json_response(answer.body, status=answer.status)

    return handle
