"""One table of cases, against each pair of ends that can meet, over the simulated Azure Relay."""

import asyncio
import contextlib
import hashlib
import itertools
import os
import ssl

import pytest
import pytest_asyncio

from support import azbridge
from support.azure import simulating
from support.bridge import make_settings
from support.peers import connected, echo, listening, reset
from support.waiting import until
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.evidence import Evidence
from tunnel_forwarder.local import LocalForwarder
from tunnel_forwarder.metrics import Histogram
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.sender import Sender
from tunnel_forwarder.session import Session
from tunnel_forwarder.targets import Target
from tunnel_forwarder.transport import Dialer, tls_context

MIB = 1 << 20
_addresses = itertools.count(100)


@pytest_asyncio.fixture
async def azure(tmp_path):
    address = f"127.0.1.{next(_addresses)}"
    async with simulating(tmp_path / "azure", address=address) as azure:
        await azure.make_hybrid_connection("hc")
        yield azure


def plain_tls(azure):
    return ssl.create_default_context(cadata=azure.authorities)


@contextlib.asynccontextmanager
async def our_listener(azure, targets):
    async with RemoteForwarder(
        endpoint=azure.endpoint,
        hybrid_connection="hc",
        token=azure.token("hc"),
        targets={name: Target("127.0.0.1", port) for name, port in targets.items()},
        tls=tls_context(azure.authorities),
    ) as remote:
        await remote.wait_listening()
        yield


@contextlib.asynccontextmanager
async def their_listener(azure, targets):
    token = azure.token("hc").reveal()
    listener = azbridge.Listener(azure.endpoint.authority, plain_tls(azure), token, targets)
    async with listener.running():
        yield


@contextlib.asynccontextmanager
async def our_sender(azure, name, *, warm=0, mux=False, both=True):
    sender = Sender(
        make_settings(azure.endpoint, names=(name,), warm=warm, mux=mux),
        azure.token("hc"),
        Dialer(tls_context(azure.authorities), timeout=5),
        Evidence(),
        slots=asyncio.Semaphore(8),
    )
    local = LocalForwarder(sender, Session(Clock()), set_up=Histogram())
    async with local.running():
        await until(lambda: local._stands_ready or (not warm and not mux))
        if mux:
            assert (local.mux.session is not None) == both
        yield local.addresses[name]


@contextlib.asynccontextmanager
async def their_sender(azure, name):
    token = azure.token("hc").reveal()
    sender = azbridge.Sender(azure.endpoint.authority, plain_tls(azure), token)
    async with sender.forwarding(name) as port:
        yield port


PAIRS = {
    "ours-ours": (our_sender, {}, our_listener),
    "ours-ours, warm": (our_sender, {"warm": 1}, our_listener),
    "ours-ours, shared socket": (our_sender, {"mux": True}, our_listener),
    "ours-azbridge": (our_sender, {}, their_listener),
    "ours-azbridge, warm": (our_sender, {"warm": 1}, their_listener),
    "ours-azbridge, shared socket wanted": (
        our_sender,
        {"mux": True, "warm": 1, "both": False},
        their_listener,
    ),
    "azbridge-ours": (their_sender, {}, our_listener),
}


@pytest.fixture(params=PAIRS, ids=list(PAIRS))
def tunnel(azure, request):
    make_sender, options, make_listener = PAIRS[request.param]

    @contextlib.asynccontextmanager
    async def tunnel(serve, *, name="echo"):
        async with (
            listening(serve, limit=MIB) as target,
            make_listener(azure, {"echo": target}),
            make_sender(azure, name, **options) as port,
        ):
            yield port

    return tunnel


async def question(reader, writer):
    """Answer once the question has ended."""
    writer.write(b"%d bytes" % len(await reader.read()))
    writer.write_eof()
    await writer.wait_closed()


async def banner(reader, writer):
    writer.write(b"SSH-2.0-test\r\n")
    await echo(reader, writer)


heard = []
"""What a target has heard, for cases whose client can not see it."""


async def ends_first(reader, writer):
    """End before the client does, then hear it out."""
    writer.write(b"that is all")
    writer.write_eof()
    heard.append(await reader.read())


async def tell_of_the_end(reader, writer):
    """Echo, and tell whether the client has ended in order."""
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
        heard.append("end")
    except ConnectionResetError:
        heard.append("reset")


async def hang_up_rudely(reader, writer):
    await reader.readexactly(1)
    reset(writer)


async def case_echo(port):
    async with connected(port) as client:
        for size in (1, 125, 126, 65535, 65536, 65537):
            await client.send(b"x" * size)
            assert await client.read(size) == b"x" * size


async def case_speaks_first(port):
    async with connected(port) as client:
        assert await client.read(14) == b"SSH-2.0-test\r\n"
        await client.send(b"hello")
        assert await client.read(5) == b"hello"


async def case_client_ends_first(port):
    async with connected(port) as client:
        await client.send(b"x" * 1000)
        client.end()
        assert await client.read() == b"1000 bytes"


async def case_target_ends_first(port):
    async with connected(port) as client:
        assert await client.read() == b"that is all"
        await client.send(b"and now I" * 1000)
        client.end()
        await until(lambda: heard)
        assert heard.pop() == b"and now I" * 1000


async def case_reset_by_the_client(port):
    async with connected(port) as client:
        await client.send(b"x")
        assert await client.read(1) == b"x"
        client.reset()
        await until(lambda: heard)
        assert heard.pop() == "reset"


async def case_nothing_at_all(port):
    async with connected(port) as client:
        client.end()
        assert await client.read() == b"0 bytes"


async def case_much_both_ways(port):
    data = os.urandom(3 * MIB)
    async with connected(port, limit=MIB) as client, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(client.send(data))
        sending.add_done_callback(lambda _: client.end())
        received = await client.read()
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


async def case_reset_by_the_target(port):
    async with connected(port) as client:
        await client.send(b"x")
        assert await client.is_reset()


async def case_ten_at_once(port):
    async def one(number):
        async with connected(port) as client:
            await client.send(b"%d" % number * 1000)
            assert await client.read(1000 * len(str(number))) == b"%d" % number * 1000

    async with asyncio.TaskGroup() as tasks:
        for number in range(10):
            tasks.create_task(one(number))


@pytest.mark.parametrize(
    ("serve", "case"),
    [
        (echo, case_echo),
        (banner, case_speaks_first),
        (question, case_client_ends_first),
        (ends_first, case_target_ends_first),
        (tell_of_the_end, case_reset_by_the_client),
        (question, case_nothing_at_all),
        (echo, case_much_both_ways),
        (hang_up_rudely, case_reset_by_the_target),
        (echo, case_ten_at_once),
    ],
    ids=lambda value: value.__name__,
)
async def test_the_pair_is_tcp(tunnel, serve, case):
    async with tunnel(serve) as port:
        await case(port)


@pytest.mark.parametrize(("name", "good"), [("echo", True), ("8080", True), ("other", False)])
async def test_the_pair_agrees_on_names(tunnel, name, good):
    async with tunnel(echo, name=name) as port, connected(port) as client:
        await client.send(b"hello")
        try:
            answer = await client.read(5)
        except (ConnectionError, asyncio.IncompleteReadError):
            answer = b""
        assert (answer == b"hello") == good
