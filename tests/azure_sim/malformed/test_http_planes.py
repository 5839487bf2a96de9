"""Bodies, paths and headers on the HTTP planes, over real connections: a right status, and no inside shown."""

import http.client
import json

import pytest
from hypothesis import strategies as st

from support.fuzz import DEADLINE, check_shows_nothing, fuzz

PRINTABLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=20)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


class Plane:
    """A connection that is kept from case to case, and made anew when the server ends it."""

    def __init__(self, address, context):
        self._made = http.client.HTTPSConnection(*address, context=context, timeout=DEADLINE)

    def ask(self, method, path, body, headers):
        """Return the status of an answer that shows nothing of the inside."""
        try:
            self._made.request(method, path, body=body, headers=headers)
            answer = self._made.getresponse()
            content = answer.read()
        except (http.client.RemoteDisconnected, ConnectionError):
            self._made.close()
            return None
        check_shows_nothing(content)
        assert answer.status < 500 or answer.status in (501, 504), content[:300]
        if content and answer.headers.get_content_type() == "application/json":
            json.loads(content)
        return answer.status

    def close(self):
        self._made.close()


@pytest.fixture(scope="session")
def planes(simulation):
    made = {name: Plane(getattr(simulation, name), simulation.context) for name in ("arm", "hub", "identity")}  # fmt: skip
    yield made
    for one in made.values():
        one.close()


METHODS = st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"])
SEGMENTS = st.sampled_from(
    ["hybridConnections", "hc", "authorizationRules", "rule", "listKeys", "regenerateKeys", "%2e%2e",
     "%00", "%ff", "", "namespaces", "demo", "networkRuleSets", "default"]
) | PRINTABLE  # fmt: skip
ARM_BODIES = st.dictionaries(
    st.sampled_from(["properties", "rights", "keyType", "key", "name", "type"]),
    JSON | st.dictionaries(
        st.sampled_from(["rights", "userMetadata", "requiresClientAuthorization"]), JSON, max_size=3
    ),
    max_size=3,
)  # fmt: skip


def bodies(shaped):
    return (shaped | JSON).map(json.dumps).map(str.encode) | st.binary(max_size=60)


@fuzz(
    500,
    method=METHODS,
    segments=st.lists(SEGMENTS, max_size=5),
    query=st.sampled_from(["?api-version=2024-01-01", "?api-version=x", "", "?api-version=2024-01-01&$skip=-1"]),
    body=bodies(ARM_BODIES),
)  # fmt: skip
def test_arm(simulation, planes, method, segments, query, body):  # noqa: PLR0917 - one for each part of a request
    endpoints = simulation.sim.endpoints
    start = (
        f"/subscriptions/{endpoints.subscription_id}/resourceGroups/{endpoints.resource_group}"
        "/providers/Microsoft.Relay/namespaces/demo/"
    )
    path = start + "/".join(part.replace("?", "%3F") for part in segments) + query
    token = simulation.sim.access_token().reveal()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    assert planes["arm"].ask(method, path, body, headers) != 401


@fuzz(200, path=PRINTABLE, token=PRINTABLE, body=st.binary(max_size=40))
def test_arm_for_strangers(planes, path, token, body):
    status = planes["arm"].ask("PUT", "/" + path, body, {"Authorization": f"Bearer {token}"})
    assert status in (400, 401, 404)


HUB_PATHS = st.sampled_from(
    ["/twins/mri-7/methods", "/devices/mri-7", "/devices/new", "/devices", "/devices/query", "/twins/mri-7",
     "/devices/mri-7/modules", "/devices/mri-7/modules/m", "/statistics/devices", "/twins/mri-7/modules/m/methods"]
) | PRINTABLE.map("/".__add__)  # fmt: skip
HUB_BODIES = st.dictionaries(
    st.sampled_from(["methodName", "payload", "responseTimeoutInSeconds", "connectTimeoutInSeconds",
                     "deviceId", "status", "authentication", "query", "etag"]),
    JSON | st.dictionaries(
        st.sampled_from(["type", "symmetricKey", "x509Thumbprint", "primaryKey"]),
        st.sampled_from(["sas", "selfSigned"]) | JSON,
        max_size=3,
    ),
    max_size=5,
)  # fmt: skip


@fuzz(
    500,
    method=METHODS,
    path=HUB_PATHS,
    query=st.sampled_from(["?api-version=2021-04-12", "?api-version=1", "", "?api-version=2021-04-12&top=x"]),
    body=bodies(HUB_BODIES),
    headers=st.dictionaries(
        st.sampled_from(["If-Match", "x-ms-max-item-count", "x-ms-continuation", "X"]),
        PRINTABLE | st.sampled_from(["1", "-1", "*", '"*"', "9" * 30]),
        max_size=3,
    ),
)  # fmt: skip
def test_hub(simulation, planes, method, path, query, body, headers):  # noqa: PLR0917 - as above
    token = simulation.sim.access_token("https://iothubs.azure.net").reveal()
    own = {"Authorization": f"Bearer {token}", **headers}
    assert planes["hub"].ask(method, path.replace("?", "%3F") + query, body, own) != 401


FIELDS = st.dictionaries(
    st.sampled_from(["grant_type", "client_id", "client_secret", "client_assertion", "scope", "x",
                     "client_assertion_type"]),
    st.sampled_from(["client_credentials", "https://relay.azure.net/.default", "/.default",
                     "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "a.b.c"]) | PRINTABLE,
    max_size=6,
)  # fmt: skip


@fuzz(
    400,
    method=METHODS,
    path=st.sampled_from(["/TENANT/oauth2/v2.0/token", "/msi/token", "/TENANT/discovery/keys", "/", "/x/oauth2/v2.0/token"])
    | PRINTABLE.map("/".__add__),
    body=FIELDS.map(lambda fields: "&".join(f"{k}={v}" for k, v in fields.items()).encode())
    | st.binary(max_size=60),
    kind=st.sampled_from(["application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=b",
                          "application/x-www-form-urlencoded; charset=nonsense", "application/json", ""]),
    authorization=st.sampled_from(["", "Basic ", "Basic eDp5", "Bearer x"]) | PRINTABLE,
)  # fmt: skip
def test_identity(simulation, planes, method, path, body, kind, authorization):  # noqa: PLR0917 - as above
    path = path.replace("TENANT", simulation.sim.endpoints.tenant_id)
    headers = {"Content-Type": kind, "Authorization": authorization}
    status = planes["identity"].ask(method, path, body, headers)
    assert status is None or status < 500
