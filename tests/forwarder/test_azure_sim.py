"""Both forwarders over the simulated Azure Relay, which judges URLs, tokens and close codes."""

import asyncio
import hashlib
import os
import time

import pytest
import pytest_asyncio

from support.azure import simulating
from support.bridge import make_settings
from support.peers import connected, echo, listening, reset
from support.waiting import until
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.errors import Reason
from tunnel_forwarder.evidence import Evidence
from tunnel_forwarder.local import LocalForwarder
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.sender import Sender
from tunnel_forwarder.session import Session
from tunnel_forwarder.targets import Target
from tunnel_forwarder.transport import Dialer, tls_context
from tunnel_forwarder.warm import WarmPool

ADDRESS = "127.0.0.21"
"""Of our own, since the simulation's MQTT port can not be chosen."""


@pytest_asyncio.fixture
async def azure(tmp_path):
    async with simulating(tmp_path / "azure", address=ADDRESS) as azure:
        await azure.make_hybrid_connection("hc")
        yield azure


@pytest.fixture
def local(azure, registry_histogram):
    def local(*, token=None, warm=0, **settings):
        sender = Sender(
            make_settings(azure.endpoint, **settings),
            token or azure.token("hc"),
            Dialer(tls_context(azure.authorities), timeout=5),
            Evidence(),
            slots=asyncio.Semaphore(8),
        )
        pool = WarmPool(sender.rendezvous, warm, retry=(0.01,))
        return LocalForwarder(sender, Session(Clock()), set_up=registry_histogram, pool=pool)

    return local


@pytest.fixture
def remote(azure):
    def remote(targets, *, token=None):
        return RemoteForwarder(
            endpoint=azure.endpoint,
            hybrid_connection="hc",
            token=token or azure.token("hc"),
            targets={name: Target("127.0.0.1", port) for name, port in targets.items()},
            tls=tls_context(azure.authorities),
        )

    return remote


@pytest.mark.parametrize("warm", [0, 2])
async def test_a_stream_goes_all_the_way(local, remote, warm):
    data = os.urandom(4 << 20)
    forwarder = local(warm=warm)
    async with listening(echo) as target, remote({"echo": target}), forwarder.running():
        await until(lambda: forwarder.ready)
        async with connected(forwarder.addresses["echo"], limit=1 << 20) as client:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.send(data)).add_done_callback(lambda _: client.end())
                received = tasks.create_task(client.read())
            assert hashlib.sha256(received.result()).digest() == hashlib.sha256(data).digest()
        await until(lambda: not forwarder.session.open)


async def test_half_close_and_reset_pass_through(local, remote):
    answered = asyncio.Event()

    async def answer_then_reset(reader, writer):
        writer.write(b"answer to " + await reader.read())
        await answered.wait()
        reset(writer)

    forwarder = local()
    async with (
        listening(answer_then_reset) as target,
        remote({"echo": target}),
        forwarder.running(),
    ):
        await until(lambda: forwarder.ready)
        async with connected(forwarder.addresses["echo"]) as client:
            await client.send(b"question")
            client.end()
            assert await client.read(18) == b"answer to question"
            answered.set()
            assert await client.is_reset()


async def test_refusals_by_the_relay_and_by_the_device(azure, local, remote):
    forwarder = local(names=("echo", "other"))
    async with forwarder.running():
        async with connected(forwarder.addresses["echo"]) as client:
            assert await client.is_reset()
        assert forwarder.session.refusals[Reason.NO_LISTENER] == 1
        async with remote({"echo": 1}) as device:
            await device.wait_listening()
            for name in ("echo", "other"):
                async with connected(forwarder.addresses[name]) as client:
                    assert await client.is_reset()
    assert forwarder.session.refusals[Reason.TARGET_REFUSED] == 1
    assert forwarder.session.refusals[Reason.UNKNOWN_PORT] == 1
    expired = local(token=azure.token("hc", seconds=-60))
    async with expired.running(), connected(expired.addresses["echo"]) as client:
        assert await client.is_reset()
    assert expired.session.refusals[Reason.EXPIRED] == 1


async def test_a_token_is_renewed_in_time_and_streams_outlive_it(azure, local, remote):
    forwarder, expires_at = local(), time.time() + 2
    async with (
        listening(echo) as target,
        remote({"echo": target}, token=azure.token("hc", seconds=2)) as device,
        forwarder.running(),
    ):
        await until(lambda: forwarder.ready)
        device.renew(azure.token("hc"))
        async with connected(forwarder.addresses["echo"]) as client:
            await client.send(b"x")
            await client.read(1)
            await until(lambda: time.time() > expires_at + 0.2)
            assert device.listening
            assert azure.sim.listeners("hc") == 1
            await client.send(b"y")
            assert await client.read(1) == b"y"


async def test_a_deleted_hybrid_connection_ends_all_and_a_new_one_is_found(azure, local, remote):
    forwarder = local(warm=1)
    async with (
        listening(echo) as target,
        remote({"echo": target}) as device,
        forwarder.running(),
    ):
        await until(lambda: forwarder.ready)
        async with connected(forwarder.addresses["echo"]) as client:
            await client.send(b"x")
            await client.read(1)
            await azure.delete_hybrid_connection("hc")
            assert await client.is_reset()
        await until(lambda: not forwarder.ready and not device.listening)
        await azure.make_hybrid_connection("hc")
        await until(lambda: forwarder.ready)
