"""The identity plane over HTTPS."""

from aiohttp import web

from ..web import Handler
from .service import IdentityService, Request

MAX_BODY = 64 * 1024


def make_handler(service: IdentityService) -> Handler:
    """Return the handler for all requests of this plane."""

    async def handle(request: web.Request) -> web.Response:
        form = await _form(request)
        answer = service.handle(
            Request(
                method=request.method,
                path=request.path,
                base=f"{request.scheme}://{request.host}",
                query=request.query,
                headers=request.headers,
                form=form,
            )
        )
        return web.json_response(answer.body, status=answer.status)

    return handle


async def _form(request: web.Request) -> dict[str, str]:
    """Return the form's fields; a body that is no form has none."""
    try:
        form = await request.post()
    except (ValueError, LookupError):
        return {}
    return {name: value for name, value in form.items() if isinstance(value, str)}
