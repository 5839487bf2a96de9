"""A relay of few lines for tests that need faults at will: TLS, rendezvous, and frames passed on.

The simulated Azure judges the wire formats; this one is only told what to do wrong.
"""

import asyncio
import contextlib
import itertools
import json
import ssl
from collections.abc import AsyncIterator

from aiohttp import WSMsgType, web

from tunnel_forwarder.protocol.urls import TOKEN_HEADER, RelayEndpoint

GONE = 1001


class FakeRelay:
    def __init__(self) -> None:
        self.endpoint: RelayEndpoint
        self.listeners: list[web.WebSocketResponse] = []
        self.streams: set[tuple[web.WebSocketResponse, web.WebSocketResponse]] = set()
        self.control_messages: list[dict] = []
        self.tokens: list[tuple[str, str | None]] = []
        self.rejections: list[str] = []
        self.refuse_connect: int | None = None
        self.refuse_listen: int | None = None
        self.hold_connect = asyncio.Event()
        self.hold_connect.set()
        self.dials = 0
        self._waiting: dict[str, asyncio.Future] = {}
        self._ids = itertools.count(1)

    @contextlib.asynccontextmanager
    async def running(
        self, tls: ssl.SSLContext, *, host: str = "127.0.0.1", name: str = "localhost"
    ) -> AsyncIterator["FakeRelay"]:
        app = web.Application()
        app.router.add_get("/$hc/{path:.+}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        self.endpoint = RelayEndpoint(name, runner.addresses[0][1])
        try:
            yield self
        finally:
            await runner.cleanup()

    async def drop_listeners(self) -> None:
        for listener in tuple(self.listeners):
            abort(listener)

    async def drop_streams(self) -> None:
        for sender, listener in tuple(self.streams):
            abort(sender)
            abort(listener)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        action = request.query["sb-hc-action"]
        self.tokens.append((action, request.headers.get(TOKEN_HEADER)))
        return await getattr(self, f"_{action}")(request)

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_listen:
            return web.Response(status=self.refuse_listen)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        self.listeners.append(websocket)
        try:
            async for message in websocket:
                self.control_messages.append(json.loads(message.data))
        finally:
            self.listeners.remove(websocket)
        return websocket

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        self.dials += 1
        await self.hold_connect.wait()
        if self.refuse_connect:
            return web.Response(status=self.refuse_connect)
        if not self.listeners:
            return web.Response(status=404)
        number = str(next(self._ids))
        met = self._waiting[number] = asyncio.get_running_loop().create_future()
        address = (
            f"wss://{self.endpoint.authority}{request.path}?sb-hc-action=accept&sb-hc-id={number}"
        )
        await self.listeners[0].send_json({"accept": {"address": address, "id": number}})
        status = await met
        if status:
            return web.Response(status=status)
        websocket, meeting = _websocket(), self._waiting.pop(number)
        try:
            await websocket.prepare(request)
        except ConnectionError as error:  # the sender left before it was met
            meeting.ready.set_exception(error)
        else:
            meeting.ready.set_result(websocket)
            await meeting.over.wait()
        return _ended(websocket)

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        number = request.query["sb-hc-id"]
        if "sb-hc-statusCode" in request.query:
            self.rejections.append(request.query["sb-hc-statusDescription"])
            self._waiting.pop(number).set_result(int(request.query["sb-hc-statusCode"]))
            return web.Response(status=410)
        met, meeting = self._waiting[number], Meeting()
        self._waiting[number] = meeting
        met.set_result(None)
        try:
            sender = await meeting.ready
        except ConnectionError:
            return web.Response(status=403)
        listener = _websocket()
        pair = (sender, listener)
        try:
            await listener.prepare(request)
            self.streams.add(pair)
            await asyncio.gather(_pass(sender, listener), _pass(listener, sender))
        except ConnectionError:  # the listener left before it was met
            abort(sender)
        finally:
            self.streams.discard(pair)
            meeting.over.set()
        return _ended(listener)


class Meeting:
    def __init__(self) -> None:
        self.ready = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()


def abort(websocket: web.WebSocketResponse) -> None:
    if websocket._req.transport is not None:  # else it is lost already
        websocket._req.transport.abort()


def _websocket() -> web.WebSocketResponse:
    return web.WebSocketResponse(autoclose=False, max_msg_size=0, compress=False)


def _ended(websocket: web.WebSocketResponse) -> web.WebSocketResponse:
    websocket._closed = True  # or aiohttp would send a second Close
    return websocket


async def _pass(source: web.WebSocketResponse, target: web.WebSocketResponse) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            message = await source.receive()
            if message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is WSMsgType.CLOSE:
                await target._writer.close(message.data, message.extra or b"")
                return
            else:
                await target._writer.close(GONE, b"")
                return
