"""What a tenant publishes, so that anybody can verify its tokens.

OpenID Connect Discovery 1.0; documentation "OpenID Connect on the Microsoft identity platform". Our access
tokens are of version 1.0, as ARM's are in Azure: their issuer is the one of the document without "v2.0".
"""

from typing import Any

from .tokens import Tokens, issuer


def discover(path: str, *, base: str, tokens: Tokens) -> dict[str, Any] | None:
    """Return the document at a tenant's path; None where there is none. `base` is how we were dialled."""
    tenant = tokens.tenant_id
    match path:
        case ".well-known/openid-configuration":
            return _configuration(f"{base}/{tenant}", "", issuer(tenant))
        case "v2.0/.well-known/openid-configuration":
            return _configuration(f"{base}/{tenant}", "v2.0/", f"{base}/{tenant}/v2.0")
        case "discovery/keys" | "discovery/v2.0/keys":
            return {"keys": [tokens.public_jwk()]}
        case _:
            return None


def _configuration(base: str, version: str, issued_by: str) -> dict[str, Any]:
    return {
        "issuer": issued_by,
        "authorization_endpoint": f"{base}/oauth2/{version}authorize",
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "jwks_uri": f"{base}/discovery/{version}keys",
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "private_key_jwt",
            "client_secret_basic",
        ],
        "response_types_supported": ["token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }
