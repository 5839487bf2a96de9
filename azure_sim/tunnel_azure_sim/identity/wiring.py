"""The identity plane made from the configuration, and its secrets, which outlive a restart."""

from tunnel_forwarder.protocol.secret import Secret

from ..config import SimConfig
from ..state import KeyStore
from .assertion import AssertionChecker
from .client import ClientChecker
from .managed import ManagedIdentity
from .service import IdentityService
from .tokens import Tokens

_CLIENT, _MANAGED = "identity/client", "identity/managed"


def make_identity(config: SimConfig, tokens: Tokens, store: KeyStore) -> IdentityService:
    """Return the plane's service."""
    seconds = config.timings.access_token
    assertions = AssertionChecker(jwks_file=config.assertion_jwks, clock=config.clock)
    return IdentityService(
        tokens=tokens,
        clients=ClientChecker(config.client_id, store.get_or_create(_CLIENT), assertions),
        managed=ManagedIdentity(
            config.client_id, managed_identity_header(store), tokens, seconds, config.clock
        ),
        token_seconds=seconds,
        clock=config.clock,
    )


def client_secret(store: KeyStore) -> Secret:
    """Return the application's first secret."""
    return store.get_or_create(_CLIENT).primary


def managed_identity_header(store: KeyStore) -> Secret:
    """Return what IDENTITY_HEADER is to hold."""
    return store.get_or_create(_MANAGED).primary
