"""The simulated Azure Resource Manager in this very process, as azure-mgmt-relay reaches it: without a socket."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from azure.core.credentials import AccessToken
from azure.core.exceptions import ServiceRequestError, ServiceResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import HttpRequest
from azure.core.rest._http_response_impl_async import AsyncHttpResponseImpl
from cryptography.hazmat.primitives.asymmetric import rsa

from support.operator_cluster import Hook
from support.tunnels import class_body
from tunnel_azure_sim.arm.plane import ArmPlane, Call, Gate
from tunnel_azure_sim.arm.resource import parse_path
from tunnel_azure_sim.arm.service import ArmService, NamespaceEntry
from tunnel_azure_sim.arm.throttle import Throttle
from tunnel_azure_sim.config import TENANT_ID
from tunnel_azure_sim.faults import Faults
from tunnel_azure_sim.identity.tokens import Tokens
from tunnel_azure_sim.journal import Journal
from tunnel_azure_sim.relay.model import Namespace
from tunnel_forwarder.protocol.urls import RelayEndpoint

PAGE_SIZE = 100
TOKEN_SECONDS = 3600.0


@cache
def _signing_key() -> rsa.RSAPrivateKey:
    """Make one key for all worlds: it costs more than most of them live."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class SimulatedArm:
    """The plane of `namespaces`, all of the class that tests use, on one clock; and the way of an SDK to it."""

    def __init__(
        self, namespaces: list[Namespace], clock: Callable[[], datetime], hook: Hook
    ) -> None:
        def seconds() -> float:
            return clock().timestamp()

        where = class_body()["spec"]["relay"]
        service = ArmService(
            subscription=where["subscriptionId"],
            group=where["resourceGroup"],
            entries=[NamespaceEntry(n, str(RelayEndpoint(n.host_names[0]))) for n in namespaces],
            page_size=PAGE_SIZE,
            keys_changed=lambda *_: None,
        )
        self.tokens = KnownTokens(_signing_key(), tenant_id=TENANT_ID, clock=seconds)
        self.faults = Faults(seed=1)
        gate = Gate(self.tokens, self.faults, Throttle(seconds))
        self.plane = ArmPlane(service, gate, Journal(seconds))
        self.transport = InProcess(self.plane, hook)
        self.credential = Credential(self.tokens, seconds)


class KnownTokens(Tokens):
    """Looks at the newest token's signature once: it comes with each of a long run's many calls."""

    _newest: tuple[str, Mapping[str, Any]] = "", {}

    def verify(self, token: str, audiences: Collection[str]) -> Mapping[str, Any]:
        text, claims = self._newest
        if token != text or claims["exp"] <= self._clock() or claims["aud"] not in audiences:
            claims = super().verify(token, audiences)
            self._newest = token, claims
        return claims


@dataclass
class Credential:
    """The operator's identity. Provides azure.core's AsyncTokenCredential.

    The SDK judges a token's end by the time of the real world, so it is told to ask each time.
    """

    tokens: Tokens
    clock: Callable[[], float]
    _known: str = ""
    _until: float = 0.0

    async def get_token(self, *scopes: str, **_: object) -> AccessToken:
        if self.clock() >= self._until:
            audience = scopes[0].removesuffix("/.default")
            self._known = self.tokens.issue(audience, subject="operator", seconds=TOKEN_SECONDS)
            self._until = self.clock() + TOKEN_SECONDS
        return AccessToken(self._known, 0)

    async def close(self) -> None:
        """There is nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@dataclass
class InProcess(AsyncHttpTransport[HttpRequest, AsyncHttpResponseImpl]):
    """Hands requests to the plane. `hook` is told of each before it has any effect, and may raise."""

    plane: ArmPlane
    hook: Hook
    outage: bool = False
    """Nobody answers, as when a port refuses."""

    lost: Counter[str] = field(default_factory=Counter)
    """How many calls, by method and kind of resource, are carried out without anybody's hearing of it."""

    async def send(self, request: HttpRequest, **_: object) -> AsyncHttpResponseImpl:
        url = urlsplit(request.url)
        what = f"{request.method} {parse_path(url.path).kind}"
        self.hook(f"arm {what}")
        if self.outage:
            raise ServiceRequestError("Connection refused")
        content = request.content
        call = Call(
            method=request.method,
            host=url.netloc,
            raw_path=url.path,
            query=dict(parse_qsl(url.query)),
            authorization=request.headers.get("Authorization", ""),
            body=content.encode() if isinstance(content, str) else content or b"",
        )
        answer = self.plane.answer(call)
        if self.lost[what]:
            self.lost[what] -= 1
            raise ServiceResponseError("Connection reset")
        return _Response(request, answer.status, answer.headers, answer.body)

    async def open(self) -> None:
        """There is nothing to open."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


class _Response(AsyncHttpResponseImpl):
    """An answer that has been read already."""

    def __init__(
        self,
        request: HttpRequest,
        status: int,
        headers: Mapping[str, str],
        body: dict[str, Any] | None,
    ) -> None:
        super().__init__(
            request=request,
            internal_response=_Closed(),
            status_code=status,
            reason="",
            content_type="application/json",
            headers={"Content-Type": "application/json", **headers},
            stream_download_generator=None,
        )
        self._content = b"" if body is None else json.dumps(body).encode()


class _Closed:
    async def close(self) -> None:
        """There is nothing to close."""
