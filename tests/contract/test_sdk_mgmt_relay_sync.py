"""azure-mgmt-relay (sync), unmodified, against ARM: what it makes, and each error that it can raise."""

import asyncio

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.identity import WorkloadIdentityCredential
from azure.mgmt.relay import RelayAPIMgmtClient
from azure.mgmt.relay.models import (
    AuthorizationRule,
    HybridConnection,
    RegenerateAccessKeyParameters,
)

from tunnel_azure_sim import ArmFailure

HC = ("demo", "demo", "hc")


class Fixed:
    """A credential with one token."""

    def __init__(self, token):
        self._token = token

    def get_token(self, *_scopes, **_options):
        return AccessToken(self._token, 2**33)


def make_client(sim, credential, **options):
    return RelayAPIMgmtClient(
        credential,
        options.pop("subscription", sim.endpoints.subscription_id),
        base_url=options.pop("base_url", sim.endpoints.arm_base_url),
        credential_scopes=["https://management.azure.com/.default"],
        connection_verify=str(sim.endpoints.ca_file),
        retry_total=0,
        **options,
    )


@pytest.fixture
def client(sim, workload):  # noqa: ARG001 - the SDK finds it in the environment
    with WorkloadIdentityCredential() as credential, make_client(sim, credential) as made:
        yield made


async def error_of(kind, function, *arguments):
    """Return the status and the code of the error that a call raises."""
    with pytest.raises(kind) as raised:
        await asyncio.to_thread(function, *arguments)
    assert type(raised.value) is kind
    return raised.value.status_code, raised.value.error.code


def live_through(client):
    """Make, read, change, list and remove everything; runs in a thread."""
    connections = client.hybrid_connections
    made = connections.create_or_update(*HC, HybridConnection(user_metadata="mine"))
    assert (made.name, made.listener_count, made.user_metadata) == ("hc", 0, "mine")
    assert connections.get(*HC).created_at == made.created_at
    assert [one.name for one in connections.list_by_namespace(*HC[:2])] == ["hc"]
    rule = AuthorizationRule(rights=["Listen"])
    connections.create_or_update_authorization_rule(*HC, "listen", rule)
    assert connections.get_authorization_rule(*HC, "listen").rights == ["Listen"]
    assert [one.name for one in connections.list_authorization_rules(*HC)] == ["listen"]
    keys = connections.list_keys(*HC, "listen")
    renewed = connections.regenerate_keys(
        *HC, "listen", RegenerateAccessKeyParameters(key_type="SecondaryKey")
    )
    assert renewed.primary_key == keys.primary_key
    assert renewed.secondary_key != keys.secondary_key
    connections.delete_authorization_rule(*HC, "listen")
    connections.delete(*HC)
    assert client.namespaces.get(*HC[:2]).name == "demo"


async def test_everything_once(client, sim):
    await asyncio.to_thread(live_through, client)
    assert sim.hybrid_connections() == {}


async def test_not_found(client, sim):
    connections = client.hybrid_connections
    kind = ResourceNotFoundError
    assert await error_of(kind, connections.get, *HC) == (404, "ResourceNotFound")
    expected = (404, "ParentResourceNotFound")
    assert await error_of(kind, connections.list_keys, *HC, "rule") == expected
    assert await error_of(kind, connections.get, "demo", "other", "hc") == expected
    unknown = (404, "ResourceGroupNotFound")
    assert await error_of(kind, connections.get, "other", "demo", "hc") == unknown
    with make_client(sim, Fixed(sim.access_token().reveal()), subscription="0" * 8) as other:
        code = await error_of(kind, other.hybrid_connections.get, *HC)
    assert code == (404, "SubscriptionNotFound")


@pytest.mark.parametrize(("name", "body"), [
    ("-hc", HybridConnection()),
    ("hc", HybridConnection(user_metadata="x" * 1025)),
    ("hc", {"properties": {"requiresClientAuthorization": "maybe"}}),
    ("hc", {"properties": []}),
])  # fmt: skip
async def test_bodies_and_names_that_are_refused(client, name, body):
    create = client.hybrid_connections.create_or_update
    status, _ = await error_of(HttpResponseError, create, "demo", "demo", name, body)
    assert status == 400


async def test_rules_that_are_refused(client):
    connections = client.hybrid_connections
    await asyncio.to_thread(connections.create_or_update, *HC, HybridConnection())
    create = connections.create_or_update_authorization_rule
    for rights in ([], ["Manage"], ["Fly"]):
        rule = AuthorizationRule(rights=rights)
        assert (await error_of(HttpResponseError, create, *HC, "r", rule))[0] == 400
    await asyncio.to_thread(create, *HC, "r", AuthorizationRule(rights=["Send"]))
    wrong = RegenerateAccessKeyParameters(key_type="ThirdKey")
    renew = connections.regenerate_keys
    assert (await error_of(HttpResponseError, renew, *HC, "r", wrong))[0] == 400


async def test_tokens_that_are_refused(sim):
    for token in (
        "not.a.jwt",
        sim.access_token("https://relay.azure.net").reveal(),
        sim.access_token().reveal()[:-8] + "AAAAAAAA",
    ):
        with make_client(sim, Fixed(token)) as client:
            error = await error_of(ClientAuthenticationError, client.hybrid_connections.get, *HC)
        assert error == (401, "InvalidAuthenticationToken")


async def test_unknown_api_version_is_refused(sim):
    token = sim.access_token().reveal()
    with make_client(sim, Fixed(token), api_version="1999-01-01") as client:
        status, _ = await error_of(HttpResponseError, client.hybrid_connections.get, *HC)
    assert status == 400


@pytest.mark.parametrize(("status", "code"), [
    (429, "TooManyRequests"), (500, "InternalServerError"), (503, "ServerBusy"),
])  # fmt: skip
async def test_failures_on_demand(client, sim, status, code):
    await sim.inject(ArmFailure(status, retry_after=7))
    get = client.hybrid_connections.get
    assert await error_of(HttpResponseError, get, *HC) == (status, code)
    assert sim.faults_in_force == ()
    assert (await error_of(ResourceNotFoundError, get, *HC))[0] == 404


async def test_nobody_at_home(sim):
    # An address of this machine on which nothing listens.
    options = {"base_url": "https://127.255.255.254:9"}
    with (
        make_client(sim, Fixed("x"), **options) as client,
        pytest.raises(ServiceRequestError),
    ):
        await asyncio.to_thread(client.hybrid_connections.get, *HC)
