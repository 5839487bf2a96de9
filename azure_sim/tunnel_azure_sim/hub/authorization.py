"""Who may call a hub's REST API, and which device may connect.

Documentation "Control access to IoT Hub using shared access signatures": keys are base64, the audience has
no scheme, `skn` names the policy and is absent from a device's own token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.errors import ProtocolError

from ..config import Clock
from ..identity.errors import TokenError
from ..identity.tokens import HUB_AUDIENCES, Tokens
from ..state import KeyPair
from .certificates import check_chain, check_thumbprint
from .errors import Code, HubError
from .model import Hub, Identity, Permission

ASSUMED_ENTRA_PERMISSIONS = frozenset(Permission) - {Permission.DEVICE_CONNECT}
"""Every principal of the tenant is IoT Hub Data Contributor: roles are not simulated."""


ASSUMED_BAD_TOKEN_CODE = Code.IotHubUnauthorizedAccess
"""For every token that is not good. For a wrong signature it was observed (Azure/azure-iot-sdk-c issue
1815); 401003 is documented for a missing header and for a rule or principal without the permission."""


@dataclass(frozen=True, slots=True)
class HubAuthorizer:
    """Checks credentials for one hub."""

    hub: Hub
    tokens: Tokens
    clock: Clock

    def check_service(self, header: str | None, permission: Permission, path: str) -> None:
        """Raise HubError unless the Authorization header gives a permission for a path."""
        if not header:
            raise HubError(Code.IotHubUnauthorized, "Authorization header missing")
        if header.startswith("SharedAccessSignature"):
            self._check_policy(_parse(header), permission, path)
            return
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise HubError(Code.IotHubUnauthorized, "The authorization header is malformed.")
        try:
            self.tokens.verify(token, HUB_AUDIENCES)
        except TokenError as error:
            raise HubError(ASSUMED_BAD_TOKEN_CODE, str(error)) from None
        if permission not in ASSUMED_ENTRA_PERMISSIONS:
            raise HubError(Code.IotHubUnauthorized, "The principal has no such permission.")

    def check_device(
        self, identity: Identity, password: str | None, certificates: Sequence[bytes]
    ) -> float | None:
        """Return when a device's token expires; None when it showed certificates. Raises HubError."""
        now = datetime.fromtimestamp(self.clock(), UTC)
        if identity.thumbprints is not None:
            check_thumbprint(identity.thumbprints, certificates, now)
            return None
        if identity.by_authority:
            check_chain(self.hub.authorities, certificates, identity.id, now)
            return None
        signature = _parse(password or "")
        device, _, module = identity.id.partition("/")
        path = f"devices/{device}/modules/{module}" if module else f"devices/{device}"
        if signature.rule is not None:
            self._check_policy(signature, Permission.DEVICE_CONNECT, path)
        else:
            self._check_signature(signature, identity.keys, path)
        return signature.expires_at

    def _check_policy(
        self, signature: sas.SharedAccessSignature, permission: Permission, path: str
    ) -> None:
        policy = self.hub.policies.get(signature.rule or "")
        if policy is None:
            raise HubError(ASSUMED_BAD_TOKEN_CODE, "The token's policy is not known.")
        self._check_signature(signature, policy.keys, path)
        if permission not in policy.permissions:
            raise HubError(
                Code.IotHubUnauthorized,
                f"Authorization rule '{policy.name}' does not allow access for '{permission}'.",
            )

    def _check_signature(
        self, signature: sas.SharedAccessSignature, keys: KeyPair, path: str
    ) -> None:
        if not any(
            signature.is_signed_with(sas.hub_key(key.reveal()))
            for key in (keys.primary, keys.secondary)
        ):
            raise HubError(ASSUMED_BAD_TOKEN_CODE, "The token's signature is wrong.")
        if signature.expires_at <= self.clock():
            raise HubError(ASSUMED_BAD_TOKEN_CODE, "The token has expired.")
        if not any(
            sas.covers(signature.audience, host=host, path=path) for host in self.hub.host_names
        ):
            raise HubError(ASSUMED_BAD_TOKEN_CODE, "The token is for another resource.")


def _parse(token: str) -> sas.SharedAccessSignature:
    try:
        return sas.parse(token)
    except ProtocolError as error:
        raise HubError(ASSUMED_BAD_TOKEN_CODE, str(error)) from None
