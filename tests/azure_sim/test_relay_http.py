"""Plain HTTP requests by way of the relay, answered by a listener that aiohttp's client is."""

import asyncio
import contextlib
import io
import json
from urllib.parse import quote

import aiohttp
import pytest

from tunnel_forwarder.protocol.urls import TOKEN_HEADER

DEADLINE = 5


class Listener:
    """Takes requests on its control channel or by rendezvous, as the documentation tells it to."""

    def __init__(self, session, url, token):
        self.session, self.url, self.token = session, url, token
        self.rendezvous = None
        self._open = []

    async def open(self):
        self.control = await self.dial(self.url, headers={TOKEN_HEADER: self.token})

    async def dial(self, url, **options):
        """Open a socket that is closed with the others.

        One that is only dropped may be collected in a cycle, with its connection first, which aiohttp reports.
        """
        self._open.append(await self.session.ws_connect(url, max_msg_size=0, **options))
        return self._open[-1]

    async def aclose(self):
        for socket in self._open:
            await socket.close()

    async def next(self, socket=None):
        """Return the next request and its body, from a rendezvous where it is large."""
        socket = socket or self.control
        async with asyncio.timeout(DEADLINE):
            request = json.loads(await socket.receive_str())["request"]
            if "method" not in request:
                self.rendezvous = await self.dial(request["address"])
                return await self.next(self.rendezvous)
            body = await socket.receive_bytes() if request["body"] else b""
        return socket, request, body

    async def respond(self, socket, request, body=None, *, status=200, headers=None, **more):
        response = {"requestId": request["id"], "statusCode": status, "body": body is not None}
        response |= {"responseHeaders": headers or {}} | more
        await socket.send_str(json.dumps({"response": response}))
        if body is not None:
            await socket.send_bytes(body)


@pytest.fixture
async def listener(relay, http):
    url = f"https://{relay.host}:{relay.port}/$hc/hc?sb-hc-action=listen"
    made = Listener(http, url, relay.token("listen"))
    await made.open()
    yield made
    await made.aclose()


@pytest.fixture
async def sender(relay, http):
    """Return a function that begins a request."""
    begun = []

    async def send(method, path, *, token=None, headers=(), **options):
        own = {} if token is False else {TOKEN_HEADER: token or relay.token("send")}
        url = f"https://{relay.host}:{relay.port}{path}"
        async with http.request(method, url, headers=own | dict(headers), **options) as response:
            return response, await response.read()

    def begin(method="GET", path="/hc", **options):
        begun.append(asyncio.create_task(send(method, path, **options)))
        return begun[-1]

    yield begin
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


async def within(task):
    return await asyncio.wait_for(task, DEADLINE)


async def status(task):
    return (await within(task))[0].status


async def test_small_request_and_response_use_the_control_channel(listener, sender, relay):
    sending = sender(
        "POST",
        f"/hc/a%20b?x=1&sb-hc-token={quote(relay.token('send'), safe='')}&y=2",
        token=False,
        data=b"question",
        headers={"X-One": "1", "Connection": "X-Hop", "X-Hop": "h", "Via": "1.0 before"},
    )
    socket, request, body = await listener.next()
    assert socket is listener.control
    assert request["method"] == "POST"
    assert request["requestTarget"] == "/hc/a%20b?x=1&y=2"
    assert body == b"question"
    headers = {name.lower(): value for name, value in request["requestHeaders"].items()}
    assert headers["x-one"] == "1"
    assert headers["via"] == f"1.0 before, 1.1 {relay.host}"
    assert headers.keys() & {"connection", "x-hop", "content-length", TOKEN_HEADER.lower()} == set()
    await listener.respond(
        socket, request, b"answer", status=201, statusDescription="Made",
        headers={"X-Two": "2", "Set-Cookie": ["a=1", "b=2"], "Content-Length": "9999"},
    )  # fmt: skip
    response, answer = await within(sending)
    assert (response.status, response.reason, answer) == (201, "Made", b"answer")
    assert response.headers["Via"] == f"1.1 {relay.host}"
    assert response.headers["X-Two"] == "2"
    assert response.headers.getall("Set-Cookie") == ["a=1", "b=2"]


async def test_response_without_a_body(listener, sender):
    sending = sender("DELETE")
    socket, request, _ = await listener.next()
    assert request["body"] is False
    await listener.respond(socket, request, status="204")
    assert await status(sending) == 204


async def test_responses_may_come_in_any_order(listener, sender):
    sendings = [sender(path=f"/hc/{number}") for number in range(5)]
    requests = [await listener.next() for _ in sendings]
    for socket, request, _ in reversed(requests):
        await listener.respond(socket, request, request["requestTarget"].encode())
    for number, sending in enumerate(sendings):
        assert (await within(sending))[1] == f"/hc/{number}".encode()


@pytest.mark.parametrize("size", [65_537, 3_000_000])
async def test_large_bodies_use_a_rendezvous(listener, sender, size):
    sending = sender("PUT", data=io.BytesIO(b"q" * size))
    socket, request, body = await listener.next()
    assert socket is listener.rendezvous
    assert len(body) == size
    await listener.respond(socket, request, b"a" * size)
    assert await within(sending) is not None
    assert len(sending.result()[1]) == size


async def test_chunked_request_uses_a_rendezvous_that_serves_the_next_one_too(listener, sender):
    async def chunks():
        yield b"one"
        yield b"two"

    sending = sender("POST", data=chunks())
    socket, request, body = await listener.next()
    assert (socket is listener.rendezvous, body) == (True, b"onetwo")
    await listener.respond(socket, request, b"1")
    await within(sending)
    # The same connection of the sender: "subsequent requests ... over the maintained WebSocket".
    sending = sender()
    socket, request, _ = await listener.next(listener.rendezvous)
    await listener.respond(socket, request, b"2")
    assert (await within(sending))[1] == b"2"


async def test_many_headers_use_a_rendezvous(listener, sender):
    headers = {f"X-{number}": "v" * 7000 for number in range(5)}
    sending = sender(headers=headers)
    socket, request, _ = await listener.next()
    assert socket is listener.rendezvous
    assert request["requestHeaders"]["X-4"] == "v" * 7000
    await listener.respond(socket, request)
    assert await status(sending) == 200


async def test_large_response_to_a_small_request_by_rendezvous(listener, sender, sim):
    sending = sender()
    _, request, _ = await listener.next()
    socket = await listener.dial(request["address"])
    with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
        await listener.dial(request["address"])
    assert raised.value.status == 403
    await listener.respond(socket, request, b"x" * 1_000_000)
    response, body = await within(sending)
    assert (response.status, len(body)) == (200, 1_000_000)
    # "If the listener chooses to drop the rendezvous, the service will also drop the connection".
    await socket.close()
    await sim.until(lambda: sim.hybrid_connections()["hc"].streams == 0)


async def test_rendezvous_ends_with_its_sender(listener, sender):
    sending = sender("POST", data=b"x" * 100_000)
    socket, _, _ = await listener.next()
    sending.cancel()
    message = await asyncio.wait_for(socket.receive(), DEADLINE)
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_authorization_is_hidden_only_where_it_was_the_token(listener, sender, relay):
    token = relay.token("send")
    for options, seen in (
        ({"token": False, "headers": {"Authorization": token}}, None),
        ({"headers": {"Authorization": "Basic eA=="}}, "Basic eA=="),
    ):
        sending = sender(**options)
        socket, request, _ = await listener.next()
        assert request["requestHeaders"].get("Authorization") == seen
        await listener.respond(socket, request)
        await within(sending)


async def test_anonymous_senders_where_they_are_allowed(listener, sender, relay):
    relay.hc.requires_client_authorization = False
    sending = sender(token=False, headers={"Authorization": "Basic eA=="})
    socket, request, _ = await listener.next()
    assert request["requestHeaders"]["Authorization"] == "Basic eA=="
    await listener.respond(socket, request)
    assert await status(sending) == 200


async def test_who_may_not_send(sender, relay):
    assert await status(sender(token=False)) == 401
    assert await status(sender(token="nonsense")) == 401
    assert await status(sender(token=relay.token("listen"))) == 403
    assert await status(sender(path="/none")) == 404
    response, _ = await within(sender(path="/none"))
    assert "Via" not in response.headers


async def test_no_listener(sender, listener, sim):
    await listener.control.close()
    await sim.until(lambda: sim.listeners("hc") == 0)
    assert await status(sender()) == 502


@pytest.mark.parametrize("timings", [{"http_response": 0.2}], indirect=True)
async def test_silent_listener(listener, sender):
    sending = sender()
    await listener.next()
    assert await status(sending) == 504
    sending = sender("POST", data=b"x" * 100_000)
    assert await status(sending) == 504


@pytest.mark.parametrize("timings", [{"http_response": 0.2}], indirect=True)
async def test_response_that_stops_in_the_middle(listener, sender):
    sending = sender()
    _, request, _ = await listener.next()
    socket = await listener.dial(request["address"])
    await socket.send_str(json.dumps(
        {"response": {"requestId": request["id"], "statusCode": 200, "body": True}}
    ))  # fmt: skip
    with pytest.raises(aiohttp.ClientError):
        await within(sending)


async def test_listener_that_goes_away(listener, sender):
    sending = sender()
    await listener.next()
    await listener.control.close()
    assert await status(sending) == 502


@pytest.mark.parametrize("response", [
    {"statusCode": 200},
    {"requestId": "ID", "statusCode": 99},
    {"requestId": "ID", "statusCode": 200, "responseHeaders": {"a b": "c"}},
    {"requestId": "ID", "statusCode": 200, "responseHeaders": {"a": "b\r\nc: d"}},
    {"requestId": "ID", "statusCode": 200, "responseHeaders": {"a": "x" * 33_000}},
    {"requestId": "ID", "statusCode": 200, "statusDescription": "a\r\nb: c"},
])  # fmt: skip
async def test_malformed_response_ends_the_channel(listener, sender, response):
    sending = sender()
    _, request, _ = await listener.next()
    filled = {key: request["id"] if value == "ID" else value for key, value in response.items()}
    await listener.control.send_str(json.dumps({"response": filled}))
    assert await status(sending) == 502
    message = await asyncio.wait_for(listener.control.receive(), DEADLINE)
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1007)


async def test_too_large_response_on_the_control_channel(listener, sender):
    sending = sender()
    socket, request, _ = await listener.next()
    await listener.respond(socket, request, b"x" * 70_000)
    assert await status(sending) == 502
    assert listener.control.closed or (await listener.control.receive()).data == 1009


async def test_status_that_is_the_services_own(listener, sender):
    sending = sender()
    socket, request, _ = await listener.next()
    await listener.respond(socket, request, status=504)
    assert await status(sending) == 500


async def test_answer_to_nobody_is_dropped(listener, sender):
    await listener.respond(listener.control, {"id": "unknown"}, b"x")
    sending = sender()
    socket, request, _ = await listener.next()
    await listener.respond(socket, request, b"y")
    assert (await within(sending))[1] == b"y"


async def test_deleted_hybrid_connection(listener, sender, relay):
    sending = sender()
    await listener.next()
    relay.namespace.remove("hc")
    assert await status(sending) == 404


async def test_listener_and_sender_tokens_are_of_the_same_kind_for_both(sim, listener, sender):
    entra = sim.access_token("https://relay.azure.net").reveal()
    sending = sender(token=False, headers={"Authorization": f"{entra}"})
    socket, request, _ = await listener.next()
    await listener.respond(socket, request)
    assert await status(sending) == 200


async def test_expect_continue(listener, sender):
    sending = sender("POST", data=b"body", expect100=True)
    socket, request, body = await listener.next()
    assert body == b"body"
    assert "Expect" not in request["requestHeaders"]
    await listener.respond(socket, request)
    assert await status(sending) == 200


async def test_malformed_requests_leave_nothing_behind(relay, sim):
    token = relay.token("send")
    for head, body in (
        (f"POST /hc HTTP/1.1\r\nHost: x\r\n{TOKEN_HEADER}: {token}\r\nContent-Length: x\r\n\r\n", b""),
        (f"POST /hc HTTP/1.1\r\nHost: x\r\n{TOKEN_HEADER}: {token}\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
        (f"POST /hc HTTP/1.1\r\nHost: x\r\n{TOKEN_HEADER}: {token}\r\nContent-Length: 10\r\n\r\n", b"1"),
    ):  # fmt: skip
        control = await relay.listen()
        reader, writer = await relay.tcp()
        writer.write(head.encode() + body)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        writer.transport.abort()
        control.abort()
        await sim.until(lambda: sim.hybrid_connections()["hc"].waiting_senders == 0)
