"""azure-identity, unmodified, against the token endpoint."""

import asyncio
import sys

import jwt
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import WorkloadIdentityCredential
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
