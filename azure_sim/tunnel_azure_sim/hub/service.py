"""The REST API of one hub: direct methods, identities, twins (REST reference, 2021-04-12). No HTTP here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from .authorization import HubAuthorizer
from .errors import Code, HubError
from .methods import MethodRequest, Methods
from .model import Hub, Permission
from .registry import MAX_LISTED, Registry, identity_name, number
from .rendering import render_identity, render_statistics, render_twin

API_VERSIONS = frozenset({"2018-06-30", "2020-05-31-preview", "2020-09-30", "2021-04-12"})

_QUERY = "select * from devices"
"""The one query that is answered, in any case and spacing."""

_READ, _WRITE = Permission.REGISTRY_READ, Permission.REGISTRY_WRITE


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    raw_path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    """Looked up in any case."""

    body: Callable[[], Mapping[str, Any]] = field(repr=False)
    """Reads the body; called once the caller is known. Raises HubError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON body, or none."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


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
        self._fail_as_wanted(segments)
        match request.method, segments:
            case "POST", ["twins", device, *module, "methods"]:
                identity = identity_name(device, module)
                self._check(request, Permission.SERVICE_CONNECT)
                return await self._invoke(identity, request)
            case "GET", ["twins", device, *module]:
                identity = identity_name(device, module)
                self._check(request, Permission.SERVICE_CONNECT)
                self.hub.meter.check_tier()
                return Answer(200, render_twin(self.hub.existing(identity)))
            case "PATCH" | "PUT" as verb, ["twins", device, *module]:
                identity = identity_name(device, module)
                self._check(request, Permission.SERVICE_CONNECT)
                return self._change_twin(identity, request, replace=verb == "PUT")
            case _, ["devices", *rest]:
                return self._registry(rest, request)
            case "GET", ["statistics", "devices" | "service" as kind]:
                self._check(request, _READ if kind == "devices" else Permission.SERVICE_CONNECT)
                return Answer(200, render_statistics(self.hub.devices(), kind))
            case _:
                raise HubError(Code.GenericNotFound, "Nothing is served here.")

    def _fail_as_wanted(self, segments: list[str]) -> None:
        """Raise the HubError that a test wants this call to get."""
        kind, *rest = segments
        resource = "methods" if kind == "twins" and segments[-1] == "methods" else kind
        device = "/".join(rest[:1] + rest[2:3] if rest[1:2] == ["modules"] else rest[:1])
        failure = self.methods.faults.fails_hub(resource, device)
        if failure is not None:
            sentence = "The request failed because a test wants it so."
            raise HubError(failure.code, sentence, retry_after=failure.retry_after)

    def _check(self, request: Request, permission: Permission) -> None:
        path = unquote(request.raw_path).strip("/")
        self.authorizer.check_service(request.headers.get("Authorization"), permission, path)
        if request.query.get("api-version") not in API_VERSIONS:
            raise HubError(Code.InvalidProtocolVersion, "The api-version is missing or unknown.")

    async def _invoke(self, identity: str, request: Request) -> Answer:
        answer = await self.methods.invoke(identity, MethodRequest.from_body(request.body()))
        return Answer(200, {"status": answer.status, "payload": answer.payload})

    def _change_twin(self, name: str, request: Request, *, replace: bool) -> Answer:
        """Change a twin, and tell the device of its desired properties (REST reference, "Update twin")."""
        self.hub.meter.check_tier()
        identity = self.hub.existing(name)
        etag, twin = request.headers.get("If-Match"), identity.twin
        desired = twin.change(request.body(), etag, self.now(), replace=replace)
        if desired is not None and identity.session is not None:
            identity.session.send_desired(desired, twin.desired.version)
        return Answer(200, render_twin(identity))

    def _registry(self, rest: list[str], request: Request) -> Answer:
        registry, if_match = Registry(self.hub, self.now), request.headers.get("If-Match")
        match request.method, rest:
            case "GET", []:
                self._check(request, _READ)
                self.hub.meter.check_quota()
                devices = registry.listed(request.query.get("top"))
                return Answer(200, [render_identity(one) for one in devices])
            case "POST", ["query"]:
                self._check(request, _READ)
                return self._query(request)
            case "GET", [device, "modules"]:
                self._check(request, _READ)
                self.hub.existing(identity_name(device, []))
                return Answer(200, [render_identity(one) for one in self.hub.modules(device)])
            case "GET", [device, *module]:
                name = identity_name(device, module)
                self._check(request, _READ)
                return Answer(200, render_identity(self.hub.existing(name)))
            case "PUT", [device, *module]:
                name = identity_name(device, module)
                self._check(request, _WRITE)
                if module:
                    self.hub.meter.check_tier()
                return Answer(200, render_identity(registry.put(name, request.body(), if_match)))
            case "DELETE", [device, *module]:
                name = identity_name(device, module)
                self._check(request, _WRITE)
                registry.remove(name, if_match)
                return Answer(204)
            case _:
                raise HubError(Code.GenericNotFound, "Nothing is served here.")

    def _query(self, request: Request) -> Answer:
        """Answer the query for all devices, page by page (REST reference, "Get twins")."""
        text = request.body().get("query")
        if not isinstance(text, str) or " ".join(text.lower().split()) != _QUERY:
            raise HubError(Code.ArgumentInvalid, f"Only '{_QUERY}' is simulated.")
        self.hub.meter.check_tier()
        self.hub.meter.check_quota()
        size = number(request.headers.get("x-ms-max-item-count"), MAX_LISTED, "x-ms-max-item-count")
        devices = self.hub.devices()
        highest = max(1, len(devices))
        continuation = request.headers.get("x-ms-continuation")
        start = 0 if continuation is None else number(continuation, highest, "x-ms-continuation")
        headers = {"x-ms-item-type": "Twin"}
        if start + size < len(devices):
            headers["x-ms-continuation"] = str(start + size)
        page = devices[start : start + size]
        return Answer(200, [render_twin(one) for one in page], headers)
