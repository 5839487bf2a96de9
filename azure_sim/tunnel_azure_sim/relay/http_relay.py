"""Relayed HTTP: a sender's request to a listener, and the listener's response back.

Documentation "Hybrid Connections protocol": small requests go over the control channel, others over a
rendezvous that lives as long as the sender's connection.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import structlog
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict

from ..config import SimConfig
from ..faults import Faults, Plane
from .authorization import Authorizer
from .connections import Connections
from .errors import Refused
from .exchange import ASSUMED_LISTENER_LOST_STATUS, Exchange
from .front import Front
from .head import Head, RelayRequest, parse_relayed_http
from .http_message import (
    MAX_CONTROL_HEADERS,
    MAX_CONTROL_TOTAL,
    ResponseHead,
    header_size,
    rendezvous_message,
    request_headers,
    request_message,
)
from .http_rendezvous import HttpRendezvous
from .http_server import HttpConnection
from .model import Listener, Right

ASSUMED_NO_HTTP_LISTENER_STATUS = 502
"""Without any listener: the prose says 502 "Bad Gateway", the table 503 with the same name."""

ASSUMED_UNREAD_LISTENER_STATUS = 503
"""There are listeners, none of which reads its control channel: "could not be routed to any listener"."""

_CHUNK = 32 * 1024

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Work:
    """One request with all that its parts have in common."""

    request: web.BaseRequest
    relayed: RelayRequest
    exchange: Exchange
    headers: Mapping[str, str]
    seconds: float
    deadline: asyncio.Timeout | None = None
    """When the listener must have answered."""

    @property
    def connection(self) -> HttpConnection:
        return cast("HttpConnection", self.request.protocol)

    @property
    def has_body(self) -> bool:
        return self.request.body_exists

    def fits_control_channel(self) -> bool:
        """Whether the request may go over the control channel; a chunked one's size is not known."""
        headers, length = header_size(self.headers), self.request.content_length
        if length is None and self.has_body:
            return False
        return headers <= MAX_CONTROL_HEADERS and headers + (length or 0) <= MAX_CONTROL_TOTAL

    def progressed(self) -> None:
        """Give the listener its whole time again, since the request is still on its way to it."""
        deadline = self.deadline
        if deadline is not None and not deadline.expired() and not self.exchange.response.done():
            deadline.reschedule(asyncio.get_running_loop().time() + self.seconds)

    def address_message(self, host: str) -> str:
        """Return the message that says only where to fetch the request."""
        return rendezvous_message(address=self.exchange.address(host), request_id=self.exchange.id)

    def message(self, host: str) -> str:
        """Return the whole `request` message for a listener that knows us by `host`."""
        return request_message(
            self.relayed,
            address=self.exchange.address(host),
            request_id=self.exchange.id,
            headers=self.headers,
            body=self.has_body,
        )


@dataclass(slots=True)
class HttpRelay:
    """Answers the plain HTTP requests of one namespace."""

    authorizer: Authorizer
    connections: Connections
    config: SimConfig
    rng: random.Random
    faults: Faults
    _open: dict[str, _Work] = field(default_factory=dict)
    """By id: those whose response is awaited or being passed on."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            return await self._relay(request)
        except Refused as refusal:
            _log.info(
                "relay.refused",
                namespace=self.authorizer.namespace.name,
                action="request",
                status=refusal.status,
                reason=refusal.sentence,
            )
            return web.Response(status=refusal.status, text=refusal.sentence)

    def answered_on(self, channel: Listener, request_id: str) -> Exchange | None:
        """Return the exchange that a control channel may answer."""
        work = self._open.get(request_id)
        return work.exchange if work is not None and work.exchange.channel is channel else None

    def lose(self, channel: Listener) -> None:
        """Fail what waits for an answer on a control channel that is gone."""
        for work in tuple(self._open.values()):
            if work.exchange.channel is channel and work.exchange.rendezvous is None:
                work.exchange.lose()

    def join(self, front: Front, request: RelayRequest, host: str) -> None:
        """Open the rendezvous of a request. Raises Refused when the address is not or no more good."""
        work = self._open.get(request.parameters.get("id", ""))
        if work is None or work.exchange.joined.done() or work.connection.transport is None:
            raise Refused(403, "The address is not valid, was used, or has expired.")
        hybrid_connection = work.exchange.hybrid_connection
        found = self.authorizer.namespace.match(request.path)
        if found is None or found[0] is not hybrid_connection:
            raise Refused(400, "The address is not the one that was given.")
        connection = work.connection

        def ended() -> None:
            hybrid_connection.streams.pop(socket, None)
            if not any(one.connection is connection for one in self._open.values()):
                connection.cut()

        socket = HttpRendezvous(
            self.connections,
            close_deadline=self.config.timings.close,
            host=host,
            ended=ended,
        )
        socket.attach(work.exchange)
        begin = front.upgrade(socket)
        hybrid_connection.streams[socket] = None
        connection.rendezvous = socket
        work.exchange.joined.set_result(None)
        begin()

    async def _relay(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.faults.wait_answering(Plane.RELAY)
        await self.faults.wait(Plane.RELAY)
        if self.faults.turns_away(Plane.RELAY):
            raise Refused(503, "The service is unavailable.")
        names = tuple(
            (key.decode("ascii", "replace"), value.decode("latin-1"))
            for key, value in request.raw_headers
        )
        relayed = parse_relayed_http(Head(request.method, request.raw_path, names))
        namespace = self.authorizer.namespace
        found = namespace.match(relayed.path)
        if found is None or relayed.head.get("Upgrade") or request.method == "CONNECT":
            raise Refused(404, "There is no such hybrid connection, or the request is an upgrade.")
        authorized = found[0].requires_client_authorization
        if authorized:
            self.authorizer.check(found[0], relayed.token, Right.SEND)
        headers = request_headers(relayed, authorized=authorized, via=namespace.host_names[0])
        work = _Work(
            request, relayed, Exchange(found[0]), headers, self.config.timings.http_response
        )
        with self._kept(work):
            sending = asyncio.create_task(self._send(work))
            try:
                return await self._respond(work)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    @contextmanager
    def _kept(self, work: _Work) -> Iterator[None]:
        exchange = work.exchange
        self._open[exchange.id] = work
        exchange.hybrid_connection.waiting.add(exchange)
        try:
            yield
        finally:
            exchange.hybrid_connection.waiting.discard(exchange)
            self._open.pop(exchange.id, None)
            exchange.lose()

    async def _send(self, work: _Work) -> None:
        """Bring the request to a listener; what fails on the way is the exchange's failure."""
        try:
            await self._bring(work)
        except Refused as refusal:
            work.exchange.refuse(refusal.status, refusal.sentence)
        except (OSError, ClientError, HttpProcessingError, web.RequestPayloadError):
            work.exchange.refuse(400, "The request's body is malformed, or ended too early.")

    async def _bring(self, work: _Work) -> None:
        exchange, rendezvous = work.exchange, work.connection.rendezvous
        if rendezvous is not None:
            rendezvous.attach(exchange)
            exchange.joined.set_result(None)
        elif work.fits_control_channel():
            body = await _read(work) if work.has_body else None
            self._offer(exchange, work.message, body)
            return
        else:
            self._offer(exchange, work.address_message, None)
            await exchange.joined
            rendezvous = work.connection.rendezvous
        if rendezvous is None:
            raise Refused(ASSUMED_LISTENER_LOST_STATUS, "The listener is gone.")
        await rendezvous.send_request(
            work.message(rendezvous.host), _chunks(work) if work.has_body else None
        )

    def _offer(self, exchange: Exchange, message: Callable[[str], str], body: bytes | None) -> None:
        listeners = list(exchange.hybrid_connection.listeners)
        if not listeners:
            raise Refused(
                ASSUMED_NO_HTTP_LISTENER_STATUS, "Nobody listens on the hybrid connection."
            )
        if self.faults.loses_accept(exchange.hybrid_connection.name):
            return
        self.rng.shuffle(listeners)
        for listener in listeners:
            if listener.offer(message(listener.host), body):
                exchange.channel = listener
                return
        raise Refused(ASSUMED_UNREAD_LISTENER_STATUS, "No listener reads its control channel.")

    async def _respond(self, work: _Work) -> web.StreamResponse:
        exchange = work.exchange
        try:
            async with asyncio.timeout(self.config.timings.http_response) as deadline:
                work.deadline = deadline
                head = await exchange.response
            headers = self._response_headers(head)
            if exchange.rendezvous is None or not head.has_body:
                async with asyncio.timeout(self.config.timings.http_response):
                    body = await exchange.body.read()
                response: web.StreamResponse = web.Response(
                    status=head.status, reason=head.reason or None, headers=headers, body=body
                )
            else:
                response = web.StreamResponse(
                    status=head.status, reason=head.reason or None, headers=headers
                )
                await self._stream(work, response)
        except TimeoutError:
            raise Refused(504, "The listener did not answer in time.") from None
        rendezvous = work.connection.rendezvous
        if rendezvous is not None and not rendezvous.is_open:
            response.force_close()
        return response

    async def _stream(self, work: _Work, response: web.StreamResponse) -> None:
        """Pass a body on as it comes; when it does not come to its end, nor does the connection."""
        seconds = self.config.timings.http_response
        await response.prepare(work.request)
        try:
            async with asyncio.timeout(seconds) as deadline:
                while data := await work.exchange.body.read(_CHUNK):
                    await response.write(data)
                    deadline.reschedule(asyncio.get_running_loop().time() + seconds)
        except (Refused, TimeoutError):
            work.connection.cut()

    def _response_headers(self, head: ResponseHead) -> CIMultiDict[str]:
        via = f"1.1 {self.authorizer.namespace.host_names[0]}"
        headers = CIMultiDict((name, value) for name, value in head.headers)
        before = headers.popall("Via", [])
        headers["Via"] = ", ".join([*before, via])
        return headers


def _ask_for_body(work: _Work) -> None:
    """Let a client go on that waits for leave to send its body (RFC 9110, section 10.1.1)."""
    transport = work.request.transport
    if transport is not None and work.request.headers.get("Expect", "").lower() == "100-continue":
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read(work: _Work) -> bytes:
    _ask_for_body(work)
    return await work.request.read()


async def _chunks(work: _Work) -> AsyncIterator[bytes]:
    """Yield a request's body as it comes; each part gives the listener its time to answer anew."""
    _ask_for_body(work)
    async for chunk in work.request.content.iter_chunked(_CHUNK):
        work.progressed()
        yield chunk
