"""Parsers without I/O: a value or the one refusal, whatever comes in."""

import json
import time
from datetime import UTC, datetime

import jwt
from hypothesis import strategies as st

from support.fuzz import fuzz
from tunnel_azure_sim.hub.authorization import HubAuthorizer
from tunnel_azure_sim.hub.errors import HubError
from tunnel_azure_sim.hub.model import Identity, Permission
from tunnel_azure_sim.identity.errors import TokenError
from tunnel_azure_sim.relay.authorization import Authorizer
from tunnel_azure_sim.relay.errors import Refused
from tunnel_azure_sim.relay.head import parse_head, parse_request
from tunnel_azure_sim.relay.http_message import parse_response
from tunnel_azure_sim.relay.model import HybridConnection, Right
from tunnel_azure_sim.state import KeyPair
from tunnel_forwarder.protocol import control, sas
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.preamble import ReplyReader, RequestReader
from tunnel_forwarder.protocol.urls import RelayEndpoint

TEXT = st.text(max_size=40)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
PIECES = st.sampled_from(
    ["/$hc/", "hc", "?", "&", "=", "%", "%00", "%2F", "%ff", "+", " ", "sb-hc-action", "listen",
     "connect", "accept", "request", "sb-hc-token", "sb-hc-id", "sb-hc-statusCode", "/../", "//", "\u00fc", "#"]
)  # fmt: skip
URLS = st.lists(PIECES | TEXT, max_size=12).map("".join)
HEADERS = st.sampled_from(
    [b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13", b"Host: a",
     b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", b"Sec-WebSocket-Key: x", b"Content-Length: 1",
     b"Content-Length: -1", b"Transfer-Encoding: chunked", b": x", b"X", b"ServiceBusAuthorization: x"]
)  # fmt: skip


def refusal(kind, function, *arguments):
    """Return the error of the one kind that a function may raise, or None."""
    try:
        function(*arguments)
    except kind as error:
        return error
    return None


def cut(data, sizes):
    """Return the data in pieces of these sizes, and the rest."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@fuzz(
    1200,
    method=st.sampled_from(["GET", "POST", "", "get", "G T"]) | TEXT,
    url=URLS,
    version=st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2", ""]),
    lines=st.lists(HEADERS | st.binary(max_size=40), max_size=8),
)
def test_heads_of_requests(method, url, version, lines):
    head = b"\r\n".join([f"{method} {url} {version}".encode(errors="replace"), *lines])

    def read():
        request = parse_request(parse_head(head))
        assert request.action is not None
        request.visible_headers(authorized=True)

    refused = refusal(Refused, read)
    assert refused is None or 400 <= refused.status < 500


@fuzz(700, url=URLS | st.just("sb://").flatmap(lambda start: URLS.map(start.__add__)))
def test_endpoints(url):
    refused = refusal(ProtocolError, RelayEndpoint.parse, url)
    assert refused is not None or RelayEndpoint.parse(url).host


GOOD = sas.sign(
    "http://demo/hc", key=b"key", rule="listen", expires_at=int(time.time()) + 600
).reveal()


@st.composite
def tokens(draw, good=GOOD):
    """Return a good token with parts left out, doubled, swapped or spoiled; or anything."""
    if draw(st.booleans()):
        return draw(TEXT)
    parts = good.replace(" ", "&").split("&")
    chosen = draw(st.lists(st.sampled_from(parts) | TEXT, max_size=7))
    return " ".join([draw(st.sampled_from([parts[0], ""])), "&".join(chosen)])


@fuzz(800, token=tokens())
def test_tokens_of_the_relay(simulation, token):
    sim = simulation.sim
    authorizer = Authorizer(sim._namespace(None), sim._tokens, time.time)
    asked = HybridConnection("hc", created_at=sim._journal.now(), updated_at=sim._journal.now())
    refused = refusal(Refused, authorizer.check, asked, token, Right.LISTEN)
    assert refused.status in (401, 403)
    assert len(token) < 8 or token not in refused.sentence  # A log may hold it.


@fuzz(
    700,
    header=st.sampled_from(["", "Bearer ", "bearer", "Basic ", "SharedAccessSignature "]).flatmap(
        lambda scheme: (tokens() | TEXT).map(scheme.__add__)
    ),
)
def test_tokens_of_the_hub(simulation, header):
    authorizer = HubAuthorizer(simulation.sim._hub(None), simulation.sim._tokens, time.time)
    device = Identity("d", KeyPair.generate(), datetime.now(UTC))
    signed = Identity("d", KeyPair.generate(), datetime.now(UTC), by_authority=True)
    shown = header.encode(errors="replace")
    for check, *arguments in (
        (authorizer.check_service, header, Permission.SERVICE_CONNECT, "twins/mri-7"),
        (authorizer.check_device, device, header, ()),
        (authorizer.check_device, device, header, (shown,)),
        (authorizer.check_device, signed, header, (shown,)),
    ):
        assert refusal(HubError, check, *arguments).code.status == 401


CLAIMS = st.dictionaries(st.sampled_from(["aud", "exp", "iss", "sub", "nbf"]), JSON, max_size=5)


@fuzz(400, claims=CLAIMS, spoil=st.integers(0, 400), byte=st.characters(codec="ascii"))
def test_bearer_tokens(simulation, claims, spoil, byte):
    own = simulation.sim._tokens
    text = own.issue("https://iothubs.azure.net", subject="s", seconds=60)
    changed = text[:spoil] + byte + text[spoil + 1 :]
    try:
        forged = jwt.encode(claims, "x" * 32, algorithm="HS256")
    except TypeError:  # PyJWT itself refuses some claims.
        forged = text[:spoil]
    for token in (changed, forged, f"{text}.x", text[:spoil]):
        if token.rstrip("=") == text:
            continue
        if refusal(TokenError, own.verify, token, {"https://iothubs.azure.net"}) is not None:
            continue
        # Base64 ignores some bits of its last character: then the signature is the same.
        assert token[:-1] == text[:-1]


KINDS = st.sampled_from(["accept", "request", "response", "renewToken", "other"])
PARTS = st.sampled_from(
    ["address", "id", "connectHeaders", "token", "requestId", "statusCode", "statusDescription",
     "responseHeaders", "body", "method"]
)  # fmt: skip
MESSAGES = st.dictionaries(KINDS, JSON | st.dictionaries(PARTS, JSON, max_size=6), max_size=2)


@fuzz(900, message=MESSAGES.map(json.dumps).map(str.encode) | st.binary(max_size=60))
def test_control_messages(message):
    for parse in (control.parse, parse_response):
        refused = refusal(ProtocolError, parse, message)
        assert refused is None or str(refused)


@fuzz(
    800,
    data=st.binary(max_size=40)
    | st.builds(
        lambda mode, size, name: bytes([1, 0, mode, size]) + name,
        st.integers(0, 3),
        st.integers(0, 255),
        st.binary(max_size=260),
    ),
    sizes=st.lists(st.integers(0, 8), max_size=6),
)
def test_preambles(data, sizes):
    for reader in (RequestReader(), ReplyReader()):
        refused = None
        for piece in cut(data, sizes):
            refused = refused or refusal(ProtocolError, reader.feed, piece)
            assert len(reader._buffer) <= 2 * len(data) + 3
        assert refused is None or str(refused)
