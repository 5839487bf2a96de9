"""Sockets that stand and carry nothing, as a relay leaves them that has lost its way."""

import asyncio

import pytest

from support.azure import simulating
from support.bridge import make_settings
from support.peers import connected, echo, listening
from support.waiting import until
from tunnel_azure_sim import Target as Dropped
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.errors import Reason
from tunnel_forwarder.evidence import Evidence
from tunnel_forwarder.local import LocalForwarder
from tunnel_forwarder.metrics import Histogram
from tunnel_forwarder.protocol import preamble
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.sender import Sender
from tunnel_forwarder.session import Session
from tunnel_forwarder.targets import Target
from tunnel_forwarder.transport import Dialer, tls_context


@pytest.fixture
async def azure(tmp_path):
    async with simulating(tmp_path / "azure", address="127.0.1.201") as azure:
        await azure.make_hybrid_connection("hc")
        yield azure
        azure.sim.drop(Dropped.ALL)


def make_local(azure, *, mux):
    sender = Sender(
        make_settings(azure.endpoint, warm=1, mux=mux),
        azure.token("hc"),
        Dialer(tls_context(azure.authorities), timeout=5),
        Evidence(),
        slots=asyncio.Semaphore(8),
    )
    histogram = Histogram()
    return LocalForwarder(sender, Session(Clock()), set_up=histogram)


@pytest.mark.parametrize("mux", [False, True], ids=["own-sockets", "shared-socket"])
async def test_clients_get_through_once_a_half_open_socket_is_found_out(azure, monkeypatch, mux):
    monkeypatch.setattr(preamble, "REPLY_SECONDS", 0.5)
    local = make_local(azure, mux=mux)
    async with (
        listening(echo) as target,
        RemoteForwarder(
            endpoint=azure.endpoint,
            hybrid_connection="hc",
            token=azure.token("hc"),
            targets={"echo": Target("127.0.0.1", target)},
            tls=tls_context(azure.authorities),
        ),
        local.running(),
    ):
        await until(lambda: local._stands_ready)
        before = local.mux and local.mux.session
        azure.sim.drop(Dropped.STREAMS, half_open=True)
        # The client's bytes are on their way already, so it can not be tried again.
        async with connected(local.addresses["echo"]) as client:
            await client.send(b"lost")
            assert await client.is_reset()
        assert local.session.refusals == {Reason.NO_REPLY: 1}
        if mux:
            await until(lambda: local.mux.session not in (None, before))
        async with connected(local.addresses["echo"]) as client:
            await client.send(b"hello")
            assert await client.read(5) == b"hello"
