"""Whatever comes in, what is read is either a value or a refusal; and no plane falls over."""

import asyncio
import random
import time

from hypothesis import given
from hypothesis import strategies as st

from tunnel_azure_sim.arm.errors import ArmError
from tunnel_azure_sim.arm.resource import parse_path
from tunnel_azure_sim.hub.errors import HubError
from tunnel_azure_sim.hub.methods import MethodRequest
from tunnel_azure_sim.hub.mqtt_codec import MAX_PACKET, Decoder, MqttError, publish
from tunnel_azure_sim.hub.topics import parse_login, parse_method_answer
from tunnel_azure_sim.identity.assertion import AssertionChecker
from tunnel_azure_sim.identity.errors import TokenRequestError
from tunnel_azure_sim.journal import without_tokens
from tunnel_azure_sim.relay.errors import Refused
from tunnel_azure_sim.relay.head import Head, parse_head, parse_request

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
PACKETS = st.sampled_from([
    b"\xc0\x00",
    b"\xe0\x00",
    b"\x40\x02\x00\x07",
    b"\x82\x06\x00\x01\x00\x01a\x01",
    b"\xa2\x05\x00\x01\x00\x01a",
    publish("devices/a/messages/events/", b"x" * 300),
    publish("t", b""),
])  # fmt: skip


def refusal(expected, function, *arguments):
    """Return the error of the one kind that a function may raise, or None."""
    try:
        function(*arguments)
    except expected as error:
        return error
    return None


def decode(chunks):
    decoder, packets = Decoder(), []
    for chunk in chunks:
        packets += decoder.feed(chunk)
    return packets


@given(st.lists(PACKETS, max_size=8), st.data())
def test_packets_do_not_depend_on_how_they_arrive(packets, data):
    stream = b"".join(packets)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=10)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decode(chunks) == decode([stream])
    assert len(decode(chunks)) == len(packets)


@given(st.lists(st.binary(max_size=60) | PACKETS, max_size=6))
def test_any_bytes_are_packets_or_an_error(chunks):
    decoder = Decoder()
    try:
        for chunk in chunks:
            decoder.feed(chunk)
    except MqttError:
        return
    assert len(decoder._buffer) <= MAX_PACKET


@given(st.binary(max_size=80), st.text(max_size=40))
def test_any_request_is_read_or_refused(raw, target):
    for head in (raw, b"GET /$hc/x?" + raw + b" HTTP/1.1"):
        error = refusal(Refused, parse_head, head)
        assert error is None or error.status == 400
    head = Head("GET", f"/{target}", (("Upgrade", target), ("Connection", "upgrade")))
    assert refusal(Refused, parse_request, head).status in (400, 404)


@given(st.text(max_size=80), st.lists(st.sampled_from(
    ["subscriptions", "s", "resourceGroups", "g", "providers", "Microsoft.Relay", "namespaces", "%"]
)))  # fmt: skip
def test_any_path_is_a_resource_or_not_found(text, segments):
    for path in (text, "/".join(segments), "/".join([*segments, text])):
        error = refusal(ArmError, parse_path, path)
        assert error is None or error.status == 404


@given(st.dictionaries(
    st.sampled_from(["methodName", "payload", "responseTimeoutInSeconds", "connectTimeoutInSeconds"]),
    JSON,
))  # fmt: skip
def test_any_body_is_a_method_call_or_refused(body):
    error = refusal(HubError, MethodRequest.from_body, body)
    assert error is None or error.code.status == 400


@given(st.text(max_size=60))
def test_any_name_is_read_or_none(text):
    parse_login(text)
    parse_method_answer(f"$iothub/methods/res/{text}")


@given(st.text(max_size=60) | st.text(alphabet="ey.J0aA-_", max_size=40))
def test_any_assertion_is_good_or_refused(text):
    checker = AssertionChecker(jwks_file=None, clock=time.time)
    assert refusal(TokenRequestError, checker.check, text).error == "invalid_client"


@given(JSON)
def test_hiding_tokens_keeps_the_rest(value):
    secret = "SharedAccessSignature sr=x&sig=y"
    shown = repr(
        without_tokens({"value": value, "listenToken": "hide me", "deep": [{"x": secret}]})
    )
    assert "hide me" not in shown
    assert secret not in shown


async def test_noise_on_every_port_is_answered_or_closed(sim, relay, mqtt, http):
    """Each connection gets its end within the deadline, and the simulation lives."""
    noise = random.Random(7)  # noqa: S311
    ports = [
        relay.port,
        8883,
        *(
            int(url.rpartition(":")[2])
            for url in (sim.endpoints.arm_base_url, sim.endpoints.hubs[0].host_name)
        ),
    ]
    beginnings = [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"\x10\x20\x00\x04MQTT\x04\xc0",
        b"POST /x HTTP/1.1\r\n",
    ]

    async def disturb(port, data, tls):
        reader, writer = await asyncio.open_connection(
            relay.host, port, ssl=relay.context if tls else None
        )
        writer.write(data)
        try:
            await writer.drain()
            if not tls or noise.random() < 0.5:
                writer.write_eof() if writer.can_write_eof() else writer.transport.abort()
            async with asyncio.timeout(3):
                await reader.read(200)
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()

    for port in ports:
        for _ in range(12):
            data = noise.choice(beginnings) + noise.randbytes(noise.randrange(400)) + b"\r\n\r\n"
            await disturb(port, data, tls=noise.random() < 0.8)
    await relay.pair()
    await mqtt.connected()
    async with http.get(sim.endpoints.arm_base_url) as response:
        assert response.status == 404
