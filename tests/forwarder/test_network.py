"""Networks as they are: proxies, IPv6, relays that close what is idle."""

import contextlib

import pytest

from support.bridge import bridging, make_local
from support.peers import connected, echo, listening
from support.proxy import ConnectProxy
from support.relay import FakeRelay
from support.waiting import until
from tunnel_forwarder.errors import Reason
from tunnel_forwarder.proxy import proxy_for
from tunnel_forwarder.warm import WarmPool


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextlib.asynccontextmanager
async def echoing(relay, certificates, **options):
    async with (
        listening(echo) as target,
        bridging(relay, certificates, {"echo": target}, **options) as tunnel,
        connected(tunnel.port()) as client,
    ):
        await client.send(b"hello")
        assert await client.read(5) == b"hello"
        yield tunnel


async def test_a_proxy_is_asked_for_the_way(relay, certificates, monkeypatch):
    async with ConnectProxy(credentials="user:p@ss").running() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        async with echoing(relay, certificates):
            # The control channel, the sender and the listener's end of the rendezvous.
            asked = f"CONNECT localhost:{relay.endpoint.port}"
            assert proxy.asked.count(asked) >= 3
            assert set(proxy.asked) == {asked}


async def test_some_hosts_need_no_proxy(relay, certificates, monkeypatch):
    async with ConnectProxy(status=500).running() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "example.com,localhost")
        async with echoing(relay, certificates):
            assert not proxy.asked


@pytest.mark.parametrize("options", [{"credentials": "user:secret"}, {"status": 403}])
async def test_a_proxy_that_refuses_is_named_as_the_reason(
    relay, certificates, monkeypatch, options
):
    async with ConnectProxy(**options).running() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrong@127.0.0.1:{proxy.port}")
        local = make_local(relay, certificates)
        async with local.running():
            async with connected(local.addresses["echo"]) as client:
                assert await client.is_reset()
            assert local.session.refusals[Reason.PROXY_REFUSED] == 1
            assert "wrong" not in local.why


async def test_a_proxy_that_is_not_there_is_unreachable(relay, certificates, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    local = make_local(relay, certificates)
    async with local.running():
        async with connected(local.addresses["echo"]) as client:
            assert await client.is_reset()
        assert local.session.refusals[Reason.UNREACHABLE] == 1


@pytest.mark.parametrize(
    ("variables", "host", "proxy"),
    [
        ({}, "a.net", None),
        ({"HTTPS_PROXY": "http://p:1"}, "a.net", "http://p:1"),
        ({"HTTPS_PROXY": "p:1"}, "a.net", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "a.net", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".a.net"}, "x.a.net", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.net:443"}, "a.net", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "b.net"}, "a.net", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "a.net", None),
    ],
)
def test_which_proxy(monkeypatch, variables, host, proxy):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(host, 443) == proxy


async def test_the_relay_may_be_reached_over_ipv6(certificates):
    try:
        running = FakeRelay().running(certificates.server, host="::1", name="::1")
        relay = await running.__aenter__()
    except OSError:
        pytest.skip("no IPv6 here")
    async with echoing(relay, certificates):
        pass
    await running.__aexit__(None, None, None)


@pytest.mark.parametrize("mux", [False, True])
async def test_a_relay_that_closes_what_is_idle_is_dialled_again(relay, certificates, mux):
    def pool(sender):
        return WarmPool(sender.rendezvous, 1, retry=(0.01,), settled=0.0)

    async with listening(echo) as target:
        options = {"mux": mux, "pool": pool}
        async with bridging(relay, certificates, {"echo": target}, **options) as tunnel:
            if mux:
                tunnel.local.mux.retry = (0.01,)
            for _ in range(3):
                await until(lambda: tunnel.local._stands_ready and relay.streams)
                idle, shared = set(tunnel.local.pool._idle), mux and tunnel.local.mux.session
                await relay.drop_streams()
                # A client that speaks before the loss is noticed shares it.
                await until(lambda idle=idle: not idle & set(tunnel.local.pool._idle))
                if mux:
                    await until(lambda shared=shared: tunnel.local.mux.session is not shared)
                async with connected(tunnel.port()) as client:
                    await client.send(b"hello")
                    assert await client.read(5) == b"hello"
