"""The data plane of one namespace: takes each upgrade and decides what becomes of it."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiofastnet
import structlog

from tunnel_forwarder.protocol.control import Accept

from ..config import SimConfig
from ..doors import Door, Doors
from ..faults import Faults, Plane
from ..journal import Journal
from .authorization import Authorizer
from .connections import Connections
from .control import ControlChannel
from .errors import Refused
from .front import Front
from .head import Head, RelayRequest, parse_request
from .http_relay import HttpRelay
from .http_server import HttpServer
from .model import MAX_CONNECTIONS, MAX_LISTENERS, HybridConnection, Right
from .rendezvous import Rendezvous
from .stream import Stream

ASSUMED_NO_LISTENER_STATUS = 404
"""What a sender's upgrade gets when the hybrid connection is there and nobody listens on it."""

ASSUMED_TOO_MANY_LISTENERS_STATUS = 403
"""What the 26th listener gets; the limit is documented, the answer is not."""

ASSUMED_UNKNOWN_ACTION_STATUS = 400
"""Documented for the HTTP rendezvous alone, as "unrecognized action"."""

# Bytes for each socket and direction. An idle socket has only touched the first few KiB of it, so that its
# size is address space; a busy one gets more from each call of the system.
_TLS_BUFFER = 16 * (16 * 1024 + 64)
_BACKLOG = 1024
_MIN_STATUS, _MAX_STATUS = 400, 599


class RelayServer:
    """Serves one namespace's hybrid connections."""

    def __init__(
        self,
        authorizer: Authorizer,
        *,
        config: SimConfig,
        rng: random.Random,
        journal: Journal,
        faults: Faults,
    ) -> None:
        self._authorizer = authorizer
        self._namespace = authorizer.namespace
        self._config = config
        self._rng = rng
        self._journal = journal
        self._connections = Connections(MAX_CONNECTIONS, journal.changed)
        self._waiting: dict[str, Rendezvous] = {}
        self._faults = faults
        self._http = HttpRelay(authorizer, self._connections, config, rng, faults)
        self._log = structlog.get_logger(__name__).bind(namespace=self._namespace.name)

    @asynccontextmanager
    async def serving(self, port: int, context: ssl.SSLContext, doors: Doors) -> AsyncIterator[int]:
        """Listen; yields the port that was bound. At the end every socket gets 1001, then is cut."""

        async def listen(number: int) -> asyncio.AbstractServer:
            server: asyncio.AbstractServer = await aiofastnet.create_server(
                asyncio.get_running_loop(),
                self._make_front,
                self._config.address,
                number,
                ssl=context,
                backlog=_BACKLOG,
                ssl_handshake_timeout=self._config.timings.request_head,
                ssl_shutdown_timeout=self._config.timings.close,
                ssl_incoming_bio_size=_TLS_BUFFER,
                ssl_outgoing_bio_size=_TLS_BUFFER,
            )
            return server

        door = Door(Plane.RELAY, listen, self._connections.abort_all)
        self._http_server = HttpServer(self._http.handle, self._connections)
        async with doors.serving(door, port) as bound:
            try:
                yield bound
            finally:
                door.close()
                await self._end_all()

    def _make_front(self) -> Front:
        return Front(
            self._decide,
            self._connections,
            make_http=self._http_server,
            deadline=self._config.timings.request_head,
        )

    async def _end_all(self) -> None:
        for hybrid_connection in self._namespace.hybrid_connections.values():
            hybrid_connection.shut_all(1001, "The service stops.")
        try:
            await self._journal.until(
                lambda: not len(self._connections), timeout=min(1.0, self._config.timings.close)
            )
        except TimeoutError:
            self._connections.abort_all()

    def _decide(self, front: Front, head: Head) -> None:
        delay = self._faults.delay(Plane.RELAY)
        if delay or self._faults.is_silent(Plane.RELAY):
            asyncio.get_running_loop().call_later(delay, self._decide_late, front, head)
        else:
            self._decide_now(front, head)

    def _decide_late(self, front: Front, head: Head) -> None:
        if front.lost or front.transport.is_closing():
            return
        if self._faults.hold(Plane.RELAY, lambda: self._decide_late(front, head)):
            return
        try:
            self._decide_now(front, head)
        except Refused as refusal:
            front.refuse(refusal.status, refusal.sentence)

    def _decide_now(self, front: Front, head: Head) -> None:
        request = parse_request(head)
        try:
            self._act(front, request)
        except Refused as refusal:
            self._log.info(
                "relay.refused",
                action=request.action,
                path="/".join(request.path),
                status=refusal.status,
                reason=refusal.sentence,
            )
            raise

    def _act(self, front: Front, request: RelayRequest) -> None:
        if self._faults.turns_away(Plane.RELAY):
            raise Refused(503, "The service is unavailable.")
        match request.action:
            case "listen":
                self._listen(front, request)
            case "connect":
                self._connect(front, request)
            case "accept":
                self._accept(front, request)
            case "request":
                self._http.join(front, request, self._host(front, request))
            case _:
                raise Refused(ASSUMED_UNKNOWN_ACTION_STATUS, "The action is not known.")

    def _find(self, request: RelayRequest) -> HybridConnection:
        found = self._namespace.match(request.path)
        if found is None:
            raise Refused(404, "The hybrid connection does not exist.")
        return found[0]

    def _listen(self, front: Front, request: RelayRequest) -> None:
        hybrid_connection = self._find(request)
        expires_at = self._authorizer.check(hybrid_connection, request.token, Right.LISTEN)
        listeners = hybrid_connection.listeners
        if len(listeners) >= MAX_LISTENERS:
            raise Refused(ASSUMED_TOO_MANY_LISTENERS_STATUS, "There are too many listeners.")
        channel = ControlChannel(
            self._connections,
            close_deadline=self._config.timings.close,
            host=self._host(front, request),
            clock=self._config.clock,
        )

        def ended() -> None:
            listeners.remove(channel)
            self._http.lose(channel)
            self._log.info("relay.listener_gone", path=hybrid_connection.name)
            self._journal.changed()

        channel.ended = ended
        channel.answered = lambda request_id: self._http.answered_on(channel, request_id)
        channel.renew = lambda token: self._authorizer.check(hybrid_connection, token, Right.LISTEN)
        begin = front.upgrade(channel)
        listeners.append(channel)
        channel.expire_at(expires_at)
        self._log.info("relay.listening", path=hybrid_connection.name)
        self._journal.changed()
        begin()

    def _connect(self, front: Front, request: RelayRequest) -> None:
        hybrid_connection = self._find(request)
        authorized = hybrid_connection.requires_client_authorization
        if authorized:
            self._authorizer.check(hybrid_connection, request.token, Right.SEND)
        sender = Rendezvous(front, request, hybrid_connection)
        headers = request.visible_headers(authorized=authorized)

        def left() -> None:
            hybrid_connection.waiting.discard(sender)
            self._waiting.pop(sender.id, None)
            self._journal.changed()

        if not self._offer(sender, headers):
            raise Refused(ASSUMED_NO_LISTENER_STATUS, "Nobody listens on the hybrid connection.")
        hybrid_connection.waiting.add(sender)
        self._waiting[sender.id] = sender
        sender.wait(self._config.timings.rendezvous, left)
        self._journal.changed()

    def _offer(self, sender: Rendezvous, headers: dict[str, str]) -> bool:
        """Tell one listener of the sender, chosen at random; False when there is none that reads."""
        if self._faults.loses_accept(sender.hybrid_connection.name):
            return bool(sender.hybrid_connection.listeners)
        listeners = list(sender.hybrid_connection.listeners)
        self._rng.shuffle(listeners)
        return any(
            listener.offer(Accept(sender.address(listener.host), sender.id, headers).to_json())
            for listener in listeners
        )

    def _accept(self, front: Front, request: RelayRequest) -> None:
        sender = self._waiting.get(request.parameters.get("id", ""))
        if sender is None or sender.request.path != request.path:
            raise Refused(403, "The address is not valid, was used, or has expired.")
        if "statusCode" in request.parameters:
            status, sentence = _rejection(request)
            sender.refuse(status, sentence)
            # The handshake is "designed to end in a defined error state": 410 tells that it is done.
            raise Refused(410, "The sender has been rejected.")
        sender.leave()
        self._join(sender, front, request)

    def _join(self, sender: Rendezvous, front: Front, request: RelayRequest) -> None:
        hybrid_connection = sender.hybrid_connection
        streams = hybrid_connection.streams

        def ended(stream: Stream) -> None:
            # Each side tells when it is the last one, and with held frames both may be.
            if stream in streams:
                del streams[stream]
                self._log.info("relay.stream_ended", path=hybrid_connection.name)
                self._journal.changed()

        stream = Stream(
            self._connections,
            close_deadline=self._config.timings.close,
            one_way_close=self._config.one_way_close,
            ended=ended,
        )
        stream.slow_down(self._faults, hybrid_connection.name)
        offered = sender.request.offered_protocols
        protocol = next((name for name in request.offered_protocols if name in offered), None)
        begin_listener = front.upgrade(stream.listener, protocol)
        begin_sender = sender.front.upgrade(stream.sender, protocol)
        streams[stream] = None
        self._log.info("relay.stream_joined", path=hybrid_connection.name)
        self._journal.changed()
        begin_sender()
        begin_listener()

    def _host(self, front: Front, request: RelayRequest) -> str:
        """Return where this client reached us: by the name that it used, if that is one of ours."""
        port = front.transport.get_extra_info("sockname")[1]
        named = (request.head.get("Host") or "").rsplit(":", 1)[0].strip("[]").lower()
        names = self._namespace.host_names
        host = named if named in names else names[0]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _rejection(request: RelayRequest) -> tuple[int, str]:
    """Return the status and the sentence that a listener gives for its rejection."""
    text = request.parameters["statusCode"]
    if not text.isascii() or not text.isdigit() or not _MIN_STATUS <= int(text) <= _MAX_STATUS:
        raise Refused(400, "sb-hc-statusCode is not an HTTP status of an error.")
    return int(text), request.parameters.get("statusDescription", "Rejected")
