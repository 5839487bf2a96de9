"""The behaviour of the Azure sample's device, for an operator that calls without a payload."""

import asyncio
import ssl
from dataclasses import dataclass, field

import structlog

from tunnel_forwarder.clock import Clock
from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.secret import Secret
from tunnel_forwarder.remote import RemoteForwarder
from tunnel_forwarder.targets import Target

from .config import SampleMode
from .tunnels import Answer, Tunnels

UID = "sample"
TOKEN_SECONDS = 3600
"""What azbridge asks for; the token is renewed at half of it."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(slots=True)
class SampleDevice:
    """Listens on the hybrid connection that has the device's name, with a key of its own."""

    mode: SampleMode
    device_id: str
    tunnels: Tunnels
    tls: ssl.SSLContext
    clock: Clock = field(default_factory=Clock)

    async def open(self) -> Answer:
        """Listen, and answer as `Models/CreateConnectionResponse.cs` in the sample does."""
        if not self.tunnels.has(UID):
            token = self._token()
            forwarder = RemoteForwarder(
                endpoint=self.mode.endpoint,
                hybrid_connection=self.device_id,
                token=token,
                targets={self.mode.PORT_NAME: Target("localhost", self.mode.service_port)},
                tls=self.tls,
                log=log.bind(tunnel=self.device_id),
            )
            self.tunnels.start(UID, forwarder, token)
        forwarder = self.tunnels[UID]
        try:
            async with asyncio.timeout(self.tunnels.listen_within):
                await forwarder.wait_listening()
        except TimeoutError:
            return Answer.refusal(500, f"Not listening yet. {forwarder.trouble}")
        return Answer(
            200,
            {
                "result": "The device listens.",
                "serviceProtocol": self.mode.service_protocol,
                "servicePort": self.mode.service_port,
            },
        )

    async def close(self) -> Answer:
        """Stop listening."""
        await self.tunnels.stop(UID)
        return Answer(204)

    async def renew_tokens(self) -> None:
        """Give the forwarder, when there is one, a fresh token now and then, until cancelled."""
        while True:
            await asyncio.sleep(TOKEN_SECONDS / 2)
            if self.tunnels.has(UID):
                self.tunnels[UID].renew(self._token())

    def _token(self) -> Secret:
        audience = sas.relay_audience(self.mode.endpoint.authority, self.device_id)
        return sas.sign(
            audience,
            key=sas.relay_key(self.mode.key.reveal()),
            rule=self.mode.rule,
            expires_at=int(self.clock.now().timestamp()) + TOKEN_SECONDS,
        )
