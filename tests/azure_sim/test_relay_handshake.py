"""Who gets in, and with which status the others do not."""

import asyncio
from urllib.parse import quote

import pytest

from tunnel_forwarder.protocol.urls import TOKEN_HEADER

LISTEN = "/$hc/hc?sb-hc-action=listen"


async def test_listener_is_counted_while_it_is_there(sim, relay):
    control = await relay.listen()
    assert sim.listeners("hc") == 1
    control.abort()
    await sim.until(lambda: sim.listeners("hc") == 0)


@pytest.mark.parametrize("audience", [
    "http://{host}/hc",
    "http://{host}/hc/",
    "http://{host}:{port}/hc",
    "https://{host}/HC",
    "sb://demo.servicebus.windows.net/hc",
    "http://localhost/hc",
])  # fmt: skip
async def test_audiences_of_all_clients_are_accepted(relay, audience):
    await relay.listen(relay.token(audience=audience.format(host=relay.host, port=relay.port)))


async def test_token_may_come_in_the_query(relay):
    await relay.websocket(f"{LISTEN}&sb-hc-token={quote(relay.token(), safe='')}")


async def test_token_may_come_in_the_authorization_header(relay):
    await relay.websocket(LISTEN, headers=[("Authorization", relay.token())])


async def test_secondary_key_and_namespace_rules_sign_too(relay):
    await relay.listen(relay.token(key=relay.hc.rules["listen"].keys.secondary))
    await relay.listen(relay.token("RootManageSharedAccessKey", audience=f"http://{relay.host}/"))


async def test_missing_malformed_and_wrong_tokens_are_unauthorized(relay, clock):
    other = relay.add("other")
    for token in (
        "",
        "SharedAccessSignature nonsense",
        "not.a.jwt",
        relay.token(key=other.rules["listen"].keys.primary),
        relay.token(expires_at=int(clock()) - 1),
        relay.token().replace("skn=listen", "skn=nobody"),
        relay.token().partition("&skn=")[0],
    ):
        assert await relay.status(relay.websocket(LISTEN, token)) == 401


async def test_good_tokens_for_something_else_are_forbidden(relay):
    root = "RootManageSharedAccessKey"
    for token in (
        relay.token("send"),
        relay.token(root, path="other"),
        relay.token(root, audience="http://elsewhere.servicebus.windows.net/hc"),
        # A hybrid connection's rule does not sign for the whole namespace.
        relay.token("listen", audience=f"http://{relay.host}/"),
    ):
        assert await relay.status(relay.websocket(LISTEN, token)) == 403


async def test_entra_tokens(sim, relay):
    good = sim.access_token("https://relay.azure.net/").reveal()
    await relay.websocket(LISTEN, good)
    other = sim.access_token("https://management.azure.com").reveal()
    assert await relay.status(relay.websocket(LISTEN, other)) == 401


async def test_unknown_paths_are_not_found(relay):
    token = relay.token("RootManageSharedAccessKey", audience=f"http://{relay.host}/")
    for action in ("listen", "connect"):
        assert await relay.status(relay.websocket(f"/$hc/none?sb-hc-action={action}", token)) == 404
    assert await relay.status(relay.websocket("/$hc/?sb-hc-action=listen", token)) == 404
    assert await relay.status(relay.websocket("/hc?sb-hc-action=listen", token)) == 404


async def test_sender_without_listener_is_not_found(relay):
    assert await relay.status(relay.dial()) == 404


async def test_sender_needs_the_send_right(relay):
    await relay.listen()
    assert await relay.status(relay.dial(token=relay.token("listen"))) == 403
    assert await relay.status(relay.websocket("/$hc/hc?sb-hc-action=connect")) == 401


async def test_sender_needs_no_token_where_the_hybrid_connection_says_so(relay):
    relay.hc.requires_client_authorization = False
    control = await relay.listen()
    dialling = asyncio.create_task(relay.websocket("/$hc/hc?sb-hc-action=connect"))
    await relay.accept(control)
    await dialling


async def test_no_action_means_connect(relay):
    control = await relay.listen()
    dialling = asyncio.create_task(relay.websocket("/$hc/hc", relay.token("send")))
    await relay.accept(control)
    await dialling


async def test_unknown_action_is_a_bad_request(relay):
    assert await relay.status(relay.websocket("/$hc/hc?sb-hc-action=dance", relay.token())) == 400


async def test_twenty_sixth_listener_is_refused(relay):
    for _ in range(25):
        await relay.listen()
    assert await relay.status(relay.listen()) == 403


async def test_regenerated_key_stops_new_dials_and_no_open_socket(sim, relay):
    old = relay.token()
    control = await relay.listen(old)
    sender, listener = await relay.pair(control)
    rule = relay.hc.rules["listen"]
    rule.keys = rule.keys.with_primary(rule.keys.secondary)
    assert await relay.status(relay.listen(old)) == 401
    await sender.send(2, b"still here")
    assert (await listener.receive()).payload == b"still here"
    assert sim.listeners("hc") == 1


@pytest.mark.parametrize(("change", "status"), [
    ({"Upgrade": None}, 400),
    ({"Connection": "close"}, 400),
    ({"Sec-WebSocket-Version": "8"}, 400),
    ({"Sec-WebSocket-Key": "short"}, 400),
    ({"Sec-WebSocket-Key": "!" * 24}, 400),
    ({"Broken Name": "x"}, 400),
])  # fmt: skip
async def test_what_is_no_upgrade_is_a_bad_request(relay, change, status):
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        TOKEN_HEADER: relay.token(),
    } | change
    reader, _ = await relay.request(LISTEN, [(k, v) for k, v in headers.items() if v is not None])
    assert (await relay.answer(reader))[0] == status


@pytest.mark.parametrize("raw", [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET $hc/hc HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
])  # fmt: skip
async def test_malformed_request_is_a_bad_request(relay, raw):
    reader, writer = await relay.tcp()
    writer.write(raw)
    assert (await relay.answer(reader))[0] == 400


async def test_too_large_head_is_refused(relay):
    for path, size in ((b"/$hc/hc", 40_000), (b"/hc", 70_000)):
        reader, writer = await relay.tcp()
        writer.write(b"GET " + path + b" HTTP/1.1\r\nX: " + b"x" * size)
        assert (await relay.answer(reader))[0] == 431


@pytest.mark.parametrize("timings", [{"request_head": 0.2}], indirect=True)
async def test_slow_head_is_refused(relay):
    reader, writer = await relay.tcp()
    writer.write(b"GET / HT")
    assert (await relay.answer(reader))[0] == 408


async def test_longest_name_wins(sim, relay):
    longer = relay.add("hc/site-a")
    token = relay.token(path="hc/site-a", hc=longer)
    await relay.websocket("/$hc/hc/site-a?sb-hc-action=listen", token)
    assert (sim.listeners("hc"), sim.listeners("hc/site-a")) == (0, 1)
    # The rule of hc/site-a does not sign for its parent path.
    wide = relay.token(path="hc", hc=longer)
    assert await relay.status(relay.websocket("/$hc/hc/site-a?sb-hc-action=listen", wide)) == 403
