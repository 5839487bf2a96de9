"""azure-identity, unmodified, against the token endpoint."""

import asyncio
import ssl
import sys

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    ClientSecretCredential,
    CredentialUnavailableError,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from azure.identity.aio import WorkloadIdentityCredential as AsyncWorkloadIdentityCredential

SCOPES = {
    "https://management.azure.com/.default": "https://management.azure.com",
    "https://iothubs.azure.net/.default": "https://iothubs.azure.net",
    "https://relay.azure.net/.default": "https://relay.azure.net",
    "https://relay.azure.net//.default": "https://relay.azure.net/",
}

KEY = "nobody checks this signature, as documented"

SIGN_IN = """
import asyncio
from azure.identity.aio import WorkloadIdentityCredential

async def main():
    async with WorkloadIdentityCredential() as credential:
        await credential.get_token("https://management.azure.com/.default")

asyncio.run(main())
"""


def async_credential(sim):
    return AsyncWorkloadIdentityCredential(connection_verify=str(sim.endpoints.ca_file))


@pytest.mark.parametrize(("scope", "audience"), SCOPES.items())
@pytest.mark.usefixtures("workload")
async def test_async_credential_gets_a_token_for_the_scope(sim, scope, audience):
    async with async_credential(sim) as credential:
        token = await credential.get_token(scope)
    claims = jwt.decode(token.token, options={"verify_signature": False})
    assert claims["aud"] == audience
    assert claims["exp"] == pytest.approx(token.expires_on, abs=2)


@pytest.mark.usefixtures("workload")
async def test_sync_credential_gets_a_token():
    with WorkloadIdentityCredential() as credential:
        token = await asyncio.to_thread(
            credential.get_token, "https://management.azure.com/.default"
        )
    assert jwt.get_unverified_header(token.token)["alg"] == "RS256"


async def test_expired_assertion_is_refused(sim, workload):
    workload.write_text(
        jwt.encode({"sub": "x", "aud": "api://AzureADTokenExchange", "exp": 1}, KEY)
    )
    async with async_credential(sim) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700024"):
            await credential.get_token("https://management.azure.com/.default")


async def test_assertion_for_another_audience_is_refused(sim, workload):
    workload.write_text(jwt.encode({"sub": "x", "aud": "sts.example", "exp": 2**40}, KEY))
    async with async_credential(sim) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700212"):
            await credential.get_token("https://management.azure.com/.default")


@pytest.mark.usefixtures("workload")
async def test_unknown_resource_is_refused(sim):
    async with async_credential(sim) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS500011"):
            await credential.get_token("https://vault.azure.net/.default")


@pytest.mark.usefixtures("workload")
async def test_unknown_client_is_refused(sim, monkeypatch):
    monkeypatch.setenv("AZURE_CLIENT_ID", "99999999-9999-9999-9999-999999999999")
    async with async_credential(sim) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS700016"):
            await credential.get_token("https://management.azure.com/.default")


@pytest.mark.usefixtures("workload")
async def test_environment_of_a_pod_is_enough():
    # aiohttp reads SSL_CERT_FILE when it is imported, and REQUESTS_CA_BUNDLE never: hence a new process.
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SIGN_IN)
    assert await asyncio.wait_for(process.wait(), 20) == 0


def secret_options(sim, secret=None):
    endpoints = sim.endpoints
    return {
        "tenant_id": endpoints.tenant_id,
        "client_id": endpoints.client_id,
        "client_secret": secret or endpoints.client_secret.reveal(),
        "authority": endpoints.authority_host,
        # Asked is login.microsoftonline.com, whatever the authority (documented for private clouds).
        "disable_instance_discovery": True,
        "connection_verify": str(endpoints.ca_file),
    }


async def test_client_secret_sync_and_async(sim):
    scope = "https://management.azure.com/.default"
    with ClientSecretCredential(**secret_options(sim)) as credential:
        token = await asyncio.to_thread(credential.get_token, scope)
    assert sim._tokens.verify(token.token, {"https://management.azure.com"})
    async with AsyncClientSecretCredential(**secret_options(sim)) as credential:
        token = await credential.get_token(scope)
    assert sim._tokens.verify(token.token, {"https://management.azure.com"})


async def test_wrong_client_secret_is_refused_sync_and_async(sim):
    scope = "https://management.azure.com/.default"
    with (
        ClientSecretCredential(**secret_options(sim, "wrong")) as credential,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
    ):
        await asyncio.to_thread(credential.get_token, scope)
    async with AsyncClientSecretCredential(**secret_options(sim, "wrong")) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
            await credential.get_token(scope)


async def test_unknown_tenant_is_refused(sim):
    options = secret_options(sim) | {"tenant_id": "99999999-9999-9999-9999-999999999999"}
    async with AsyncClientSecretCredential(**options) as credential:
        with pytest.raises(ClientAuthenticationError, match="AADSTS90002"):
            await credential.get_token("https://management.azure.com/.default")


@pytest.fixture
def app_service(sim, trust, monkeypatch):  # noqa: ARG001 - the SDK finds it in the environment
    """Set the environment that App Service sets."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", sim.endpoints.managed_identity_endpoint)
    header = sim.endpoints.managed_identity_header.reveal()
    monkeypatch.setenv("IDENTITY_HEADER", header)
    return monkeypatch


@pytest.mark.usefixtures("app_service")
@pytest.mark.parametrize(("scope", "audience"), SCOPES.items())
async def test_managed_identity_sync_and_async(sim, scope, audience):
    expected = {audience.rstrip("/")}
    with ManagedIdentityCredential() as credential:
        token = await asyncio.to_thread(credential.get_token, scope)
    assert sim._tokens.verify(token.token, expected)
    verify = str(sim.endpoints.ca_file)
    async with AsyncManagedIdentityCredential(connection_verify=verify) as credential:
        token = await credential.get_token(scope)
    assert sim._tokens.verify(token.token, expected)


async def test_managed_identity_refusals(sim, app_service):
    scope, verify = "https://management.azure.com/.default", str(sim.endpoints.ca_file)
    with (
        ManagedIdentityCredential(client_id="other") as credential,
        pytest.raises(ClientAuthenticationError, match="No User Assigned"),
    ):
        await asyncio.to_thread(credential.get_token, scope)
    async with AsyncManagedIdentityCredential(
        connection_verify=verify, retry_total=0
    ) as credential:
        with pytest.raises(ClientAuthenticationError, match="resource is not known"):
            await credential.get_token("https://vault.azure.net/.default")
    app_service.setenv("IDENTITY_HEADER", "wrong")
    async with AsyncManagedIdentityCredential(connection_verify=verify) as credential:
        with pytest.raises((ClientAuthenticationError, CredentialUnavailableError)):
            await credential.get_token(scope)


async def test_tokens_can_be_verified_by_others(sim):
    """PyJWT's own client of key sets, as a resource server would use it."""
    tenant = f"{sim.endpoints.authority_host}/{sim.endpoints.tenant_id}"
    context = ssl.create_default_context(cafile=str(sim.endpoints.ca_file))
    keys = jwt.PyJWKClient(f"{tenant}/discovery/keys", ssl_context=context)
    token = sim.access_token("https://iothubs.azure.net").reveal()
    key = await asyncio.to_thread(keys.get_signing_key_from_jwt, token)
    claims = jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience="https://iothubs.azure.net",
        issuer=f"https://sts.windows.net/{sim.endpoints.tenant_id}/",
    )
    assert claims["appid"] == sim.endpoints.client_id
