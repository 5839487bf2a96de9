"""The REST API of one hub: direct methods, identities, twins (REST reference, 2021-04-12). No HTTP here."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.errors import ProtocolError
from tunnel_forwarder.protocol.secret import Secret

from ..state import KeyPair
from .authorization import HubAuthorizer
from .errors import Code, HubError
from .methods import MethodRequest, Methods
from .model import Hub, Identity, Permission
from .rendering import render_identity, render_twin

API_VERSIONS = frozenset({"2018-06-30", "2020-05-31-preview", "2020-09-30", "2021-04-12"})

_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@$']{1,128}")
"""Documentation "Understand the identity registry": device identity properties."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    raw_path: str
    api_version: str | None
    authorization: str | None = field(repr=False)
    if_match: str | None
    body: Callable[[], Mapping[str, Any]] = field(repr=False)
    """Reads the body; called once the caller is known. Raises HubError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON body, or none."""

    status: int
    body: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class HubService:
    """Answers requests for one hub."""

    hub: Hub
    authorizer: HubAuthorizer
    methods: Methods
    now: Callable[[], datetime]

    async def handle(self, request: Request) -> Answer:
        """Answer one request. Raises HubError."""
        segments = [unquote(part) for part in request.raw_path.strip("/").split("/")]
        match segments:
            case ["twins", device, *module, "methods"] if request.method == "POST":
                identity = _identity(device, module)
                self._check(request, Permission.SERVICE_CONNECT)
                return await self._invoke(identity, request)
            case ["twins", device, *module] if request.method == "GET":
                identity = _identity(device, module)
                self._check(request, Permission.SERVICE_CONNECT)
                return Answer(200, render_twin(self.hub.existing(identity)))
            case ["devices", device, *module]:
                return self._registry(_identity(device, module), request)
            case _:
                raise HubError(Code.NotFound, "Nothing is served here.")

    def _check(self, request: Request, permission: Permission) -> None:
        path = unquote(request.raw_path).strip("/")
        self.authorizer.check_service(request.authorization, permission, path)
        if request.api_version not in API_VERSIONS:
            raise HubError(Code.InvalidProtocolVersion, "The api-version is missing or unknown.")

    async def _invoke(self, identity: str, request: Request) -> Answer:
        answer = await self.methods.invoke(identity, MethodRequest.from_body(request.body()))
        return Answer(200, {"status": answer.status, "payload": answer.payload})

    def _registry(self, identity: str, request: Request) -> Answer:
        match request.method:
            case "GET":
                self._check(request, Permission.REGISTRY_READ)
                return Answer(200, render_identity(self.hub.existing(identity)))
            case "PUT":
                self._check(request, Permission.REGISTRY_WRITE)
                return self._put(identity, request)
            case "DELETE":
                self._check(request, Permission.REGISTRY_WRITE)
                _check_match(self.hub.existing(identity), request.if_match)
                self.hub.remove(identity)
                return Answer(204)
            case _:
                raise HubError(Code.NotFound, "Nothing is served here.")

    def _put(self, name: str, request: Request) -> Answer:
        body = request.body()
        if "/" in name:
            self.hub.existing(name.partition("/")[0])
        known = self.hub.identities.get(name)
        if known is None:
            known = Identity(name, KeyPair.generate(), self.now())
            _change(known, body)
            self.hub.identities[name] = known
            return Answer(200, render_identity(known))
        if request.if_match is None:
            raise HubError(Code.DeviceAlreadyExists, f"The device '{name}' is registered already.")
        _check_match(known, request.if_match)
        _change(known, body)
        known.etag = secrets.token_hex(6)
        if not known.enabled:
            self._end_sessions(name)
        return Answer(200, render_identity(known))

    def _end_sessions(self, name: str) -> None:
        """End the connections of a device that was disabled, and of its modules."""
        for key, identity in self.hub.identities.items():
            if key == name or key.startswith(f"{name}/"):
                identity.end_session(Code.DeviceNotFound)


def _identity(device: str, module: list[str]) -> str:
    match module:
        case []:
            names = [device]
        case ["modules", name]:
            names = [device, name]
        case _:
            raise HubError(Code.NotFound, "Nothing is served here.")
    if not all(_ID.fullmatch(name) for name in names):
        raise HubError(Code.ArgumentInvalid, "An id has characters that are not allowed.")
    return "/".join(names)


def _check_match(identity: Identity, if_match: str | None) -> None:
    if if_match is not None and if_match.strip('"') not in ("*", identity.etag):
        raise HubError(Code.PreconditionFailed, "The device was changed by somebody else.")


def _change(identity: Identity, body: Mapping[str, Any]) -> None:
    """Take the status and the keys over from a PUT's body. Raises HubError and changes nothing."""
    match body.get("status"):
        case None | "enabled":
            enabled = True
        case "disabled":
            enabled = False
        case _:
            raise HubError(Code.ArgumentInvalid, "'status' is enabled or disabled.")
    keys = _keys(body.get("authentication"), identity.keys)
    identity.enabled, identity.keys = enabled, keys


def _keys(authentication: object, current: KeyPair) -> KeyPair:
    match authentication:
        case {"symmetricKey": {"primaryKey": str(primary), "secondaryKey": str(secondary)}} if (
            primary and secondary
        ):
            try:
                sas.hub_key(primary), sas.hub_key(secondary)
            except ProtocolError as error:
                raise HubError(Code.ArgumentInvalid, str(error)) from None
            return KeyPair(Secret(primary), Secret(secondary))
        case {"type": "selfSigned" | "certificateAuthority"}:
            raise HubError(Code.ArgumentInvalid, "Only symmetric keys are simulated.")
        case _:
            return current
