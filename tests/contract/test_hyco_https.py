"""npm hyco-https, unmodified, as a web server behind the relay; any HTTP client asks it."""

import asyncio
import ssl

import aiohttp
import pytest

from support import hyco
from support.azure import Azure


@pytest.fixture
async def azure(sim):
    made = Azure(sim)
    await made.make_hybrid_connection("web")
    return made


@pytest.fixture
async def server(azure, node_modules):
    text = azure.relay.root_connection_string.reveal()
    pairs = dict(part.partition("=")[::2] for part in text.split(";"))
    async with hyco.script(
        node_modules,
        "web.js",
        ca_file=azure.sim.endpoints.ca_file,
        URI=f"wss://{azure.endpoint.host}:{azure.endpoint.port}/$hc/web",
        RULE=pairs["SharedAccessKeyName"],
        KEY=pairs["SharedAccessKey"],
    ) as running:
        await running.event("listening")
        yield running


@pytest.fixture
async def ask(azure):
    """Return a maker of requests through the relay."""
    context = ssl.create_default_context(cafile=str(azure.sim.endpoints.ca_file))
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def request(method, path="/web", *, token=None, **options):
            headers = {"ServiceBusAuthorization": azure.token("web").reveal()}
            headers = options.pop("headers", {}) | (headers if token is None else token)
            url = f"https://{azure.endpoint.host}:{azure.endpoint.port}{path}"
            async with session.request(method, url, headers=headers, **options) as response:
                return response.status, response.headers, await response.text()

        yield request


async def test_get_with_suffix_query_and_headers(server, ask):
    status, headers, body = await ask("GET", "/web/page?x=1", headers={"X-Mine": "seen"})
    assert (status, body) == (200, "you asked for /web/page?x=1")
    assert headers["X-Seen"] == "seen"
    assert headers["Via"]
    request = await server.event("request")
    assert (request["method"], request["url"]) == ("GET", "/web/page?x=1")


@pytest.mark.parametrize("size", [1, 1000, 60_000])
@pytest.mark.usefixtures("server")
async def test_small_bodies_come_by_the_control_channel(ask, size):
    status, _, body = await ask("POST", data="b" * size)
    assert (status, body) == (201, "b" * size)


@pytest.mark.parametrize("size", [70_000, 1_000_000])
@pytest.mark.usefixtures("server")
async def test_large_bodies_come_by_a_rendezvous(ask, size):
    status, _, body = await ask("POST", data="b" * size)
    assert (status, len(body)) == (201, size)
    assert body == "b" * size


@pytest.mark.usefixtures("server")
async def test_one_after_the_other_many(ask):
    for number in range(20):
        status, _, body = await ask("GET", f"/web/{number}")
        assert (status, body) == (200, f"you asked for /web/{number}")


@pytest.mark.usefixtures("server")
async def test_without_a_token(ask):
    assert (await ask("GET", token={}))[0] == 401
    assert (await ask("GET", "/nobody"))[0] == 404


async def test_without_a_listener(ask):
    assert (await ask("GET"))[0] in (502, 503)


async def test_listener_that_ends_in_mid_request(server, ask):
    server.process.kill()
    await server.process.wait()
    async with asyncio.timeout(10):
        assert (await ask("GET"))[0] in (502, 503)
