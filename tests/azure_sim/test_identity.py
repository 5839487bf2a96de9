"""The token endpoint: assertions with and without keys to check them against."""

import base64
import json
import time
from urllib.parse import quote

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tunnel_azure_sim.errors import ConfigError
from tunnel_azure_sim.identity.assertion import AUDIENCE, AssertionChecker
from tunnel_azure_sim.identity.errors import TokenRequestError

KEY = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def token(sim, http):
    async def post(tenant=None, **changes):
        form = {
            "grant_type": "client_credentials",
            "client_id": sim.endpoints.client_id,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": sim.assertion().reveal(),
            "scope": "https://management.azure.com/.default",
        } | changes
        url = (
            f"{sim.endpoints.authority_host}/{tenant or sim.endpoints.tenant_id}/oauth2/v2.0/token"
        )
        async with http.post(url, data=form) as response:
            return response.status, await response.json()

    return post


async def test_token_is_good_for_its_audience(sim, token):
    status, body = await token()
    assert status == 200
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    claims = sim._tokens.verify(body["access_token"], {"https://management.azure.com"})
    assert claims["appid"] == sim.endpoints.client_id


@pytest.mark.parametrize(("changes", "error", "code"), [
    ({"tenant": "other"}, "invalid_request", 90002),
    ({"grant_type": "password"}, "unsupported_grant_type", 70003),
    ({"client_id": "other"}, "unauthorized_client", 700016),
    ({"client_assertion_type": "other"}, "invalid_client", 7000218),
    ({"client_assertion": ""}, "invalid_client", 50027),
    ({"client_assertion": "x.y.z"}, "invalid_client", 50027),
    ({"client_assertion_type": "other", "client_secret": "wrong"}, "invalid_client", 7000215),
    ({"client_secret": "schl\u00fcssel"}, "invalid_client", 7000215),
    ({"grant_type": ""}, "invalid_request", 900144),
    ({"client_id": ""}, "invalid_request", 900144),
    ({"scope": ""}, "invalid_request", 900144),
    ({"scope": "https://management.azure.com"}, "invalid_scope", 1002012),
    ({"scope": "https://graph.microsoft.com/.default"}, "invalid_scope", 500011),
])  # fmt: skip
async def test_requests_that_are_refused(token, changes, error, code):
    status, body = await token(**changes)
    assert 400 <= status < 500
    assert (body["error"], body["error_codes"]) == (error, [code])
    assert body["error_description"].startswith(f"AADSTS{code}: ")


async def test_secret_is_as_good_as_an_assertion(sim, http):
    url = f"{sim.endpoints.authority_host}/{sim.endpoints.tenant_id}/oauth2/v2.0/token"
    form = {"grant_type": "client_credentials", "scope": "https://iothubs.azure.net/.default"}
    client, secret = sim.endpoints.client_id, sim.endpoints.client_secret.reveal()
    own = {"client_id": client, "client_secret": secret}
    async with http.post(url, data=form | own) as response:
        assert response.status == 200
    basic = base64.b64encode(f"{client}:{quote(secret, safe='')}".encode()).decode()
    async with http.post(url, data=form, headers={"Authorization": f"Basic {basic}"}) as response:
        assert response.status == 200
    async with http.post(url, data=form | {"client_id": client}) as response:
        assert (await response.json())["error_codes"] == [7000216]
    for header in ("Basic !", "Basic /w==", "Basic eDp5", "Basic"):
        async with http.post(url, data=form, headers={"Authorization": header}) as response:
            assert response.status == 400


async def test_documents_lead_to_keys_that_verify(sim, http):
    tenant = f"{sim.endpoints.authority_host}/{sim.endpoints.tenant_id}"
    for version, issuer in (("", f"https://sts.windows.net/{sim.endpoints.tenant_id}/"),
                            ("/v2.0", f"{tenant}/v2.0")):  # fmt: skip
        async with http.get(f"{tenant}{version}/.well-known/openid-configuration") as response:
            document = await response.json()
        assert document["issuer"] == issuer
        assert document["token_endpoint"] == f"{tenant}/oauth2/v2.0/token"
        async with http.get(document["jwks_uri"]) as response:
            (key,) = jwt.PyJWKSet.from_dict(await response.json()).keys
        token = sim.access_token().reveal()
        assert jwt.get_unverified_header(token)["kid"] == key.key_id
        claims = jwt.decode(token, key, audience="https://management.azure.com")
        assert claims["iss"] == f"https://sts.windows.net/{sim.endpoints.tenant_id}/"
        assert claims["exp"] - claims["iat"] == 3600
    async with http.get(f"{sim.endpoints.authority_host}/x/discovery/keys") as response:
        assert response.status == 404


async def test_managed_identity(sim, http):
    endpoints = sim.endpoints
    good = {"api-version": "2019-08-01", "resource": "https://relay.azure.net"}
    header = {"X-IDENTITY-HEADER": endpoints.managed_identity_header.reveal()}

    async def ask(query, headers=header):
        url = endpoints.managed_identity_endpoint
        async with http.get(url, params=query, headers=headers) as response:
            return response.status, await response.json()

    status, body = await ask(good | {"client_id": endpoints.client_id})
    assert status == 200
    assert int(body["expires_on"]) > time.time()
    assert sim._tokens.verify(body["access_token"], {"https://relay.azure.net"})
    for query, headers, expected in (
        (good, {}, 401),
        (good, {"X-IDENTITY-HEADER": "\u00fc"}, 401),
        ({"resource": good["resource"]}, header, 400),
        (good | {"client_id": "other"}, header, 400),
        (good | {"resource": "https://vault.azure.net"}, header, 500),
    ):
        status, body = await ask(query, headers)
        assert status == body["statusCode"] == expected
        assert body["message"]


async def test_other_paths_and_methods(sim, http):
    async with http.get(f"{sim.endpoints.authority_host}/common/discovery/instance") as response:
        assert response.status == 404
    async with http.post(f"{sim.endpoints.authority_host}/", data=b"\xff" * 100_000) as response:
        assert response.status in (404, 413)


@pytest.fixture
def checker(tmp_path):
    public = json.loads(ECAlgorithm.to_jwk(KEY.public_key())) | {"kid": "cluster", "alg": "ES256"}
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [public]}))
    return AssertionChecker(jwks_file=file, clock=time.time)


def assertion(key=KEY, kid="cluster", **claims):
    body = {"sub": "pod", "aud": [AUDIENCE], "exp": int(time.time()) + 60} | claims
    return jwt.encode(body, key, algorithm="ES256", headers={"kid": kid})


def test_signature_is_checked_where_there_are_keys(checker):
    assert checker.check(assertion()) == "pod"
    for wrong, code in (
        (assertion(OTHER), 700213),
        (assertion(kid="unknown"), 700213),
        (jwt.encode({"sub": "pod", "aud": AUDIENCE, "exp": 2**40}, "x" * 32), 700213),
        (assertion(aud="other"), 700212),
        (assertion(exp=1), 700024),
        (assertion(sub=""), 50027),
        ("nonsense", 50027),
    ):
        with pytest.raises(TokenRequestError) as raised:
            checker.check(wrong)
        assert raised.value.code == code


@pytest.mark.parametrize("content", ["", "{}", '{"keys": [{"kty": "EC"}]}', "[]"])
def test_what_is_no_key_set_can_not_be_used(tmp_path, content):
    file = tmp_path / "jwks.json"
    file.write_text(content)
    with pytest.raises(ConfigError):
        AssertionChecker(jwks_file=file, clock=time.time)
    with pytest.raises(ConfigError):
        AssertionChecker(jwks_file=tmp_path / "none", clock=time.time)
