"""A whole bridge in one process: local forwarder, relay, remote forwarder."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from support.waiting import until
from tunnel_forwarder.clock import Clock
from tunnel_forwarder.evidence import Evidence
from tunnel_forwarder.local import LocalForwarder
from tunnel_forwarder.metrics import Histogram
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.protocol.settings import ForwarderSettings, ListenPort
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.sender import Sender
from tunnel_forwarder.session import Session
from tunnel_forwarder.targets import Target
from tunnel_forwarder.transport import Dialer

SEND, LISTEN = (
    Secret(f"SharedAccessSignature sr={name}&sig=YQ%3D%3D&se=9999999999&skn={name}")
    for name in ("send", "listen")
)


@dataclass
class Bridge:
    """What a test drives: `port` of the local forwarder leads to the remote's target of that name."""

    local: LocalForwarder
    remote: RemoteForwarder

    def port(self, name: str = "echo") -> int:
        return self.local.addresses[name]


def make_settings(
    endpoint,
    *,
    names=("echo",),
    warm=0,
    idle=0,
    expires_at=None,
    listen=0,
    mux=False,
    udp=(),
    named=None,
):
    listens = named or dict.fromkeys(names, listen)
    return ForwarderSettings(
        tunnel="imaging/mri-7",
        correlation_id="c-1",
        endpoint=endpoint,
        hybrid_connection="hc",
        ports=tuple(
            ListenPort(name, port, "udp" if name in udp else "tcp")
            for name, port in listens.items()
        ),
        expires_at=expires_at or datetime.now(UTC) + timedelta(hours=1),
        idle_seconds=idle,
        warm_connections=warm,
        mux=mux,
    )


def make_remote(relay, certificates, targets, **options):
    return RemoteForwarder(
        endpoint=relay.endpoint,
        hybrid_connection="hc",
        token=LISTEN,
        targets={
            name: to if isinstance(to, Target) else Target("127.0.0.1", to)
            for name, to in targets.items()
        },
        tls=certificates.client,
        **options,
    )


@contextlib.asynccontextmanager
async def listening_device(relay, certificates, targets) -> AsyncIterator[RemoteForwarder]:
    async with make_remote(relay, certificates, targets) as remote:
        await remote.wait_listening()
        yield remote


def make_local(
    relay, certificates, *, max_streams=1000, dial_timeout=5.0, pool=None, udp_idle=60.0, **settings
):
    sender = Sender(
        make_settings(relay.endpoint, **settings),
        SEND,
        Dialer(certificates.client, timeout=dial_timeout),
        Evidence(),
        slots=asyncio.Semaphore(32),
    )
    return LocalForwarder(
        sender,
        Session(Clock()),
        set_up=Histogram(),
        max_streams=max_streams,
        pool=pool and pool(sender),
        udp_idle=udp_idle,
    )


@contextlib.asynccontextmanager
async def bridging(relay, certificates, targets, *, names=None, **options) -> AsyncIterator[Bridge]:
    local = make_local(relay, certificates, names=names or tuple(targets), **options)
    async with listening_device(relay, certificates, targets) as remote, local.running():
        if local.mux is not None:
            await until(lambda: local.mux.session, what="the shared socket stands")
        yield Bridge(local, remote)
