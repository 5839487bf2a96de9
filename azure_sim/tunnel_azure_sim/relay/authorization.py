"""Who may listen and who may send: shared access signatures and Entra tokens.

Documentation "Azure Relay authentication with Shared Access Signatures" for the signatures, and the status
tables of "Hybrid Connections protocol": 401 for a token that is missing, malformed or invalid, 403 for
one that is good but "not valid for this path or for this action".
"""

from dataclasses import dataclass

from tunnel_forwarder.protocol import sas
from tunnel_forwarder.protocol.errors import ProtocolError

from ..config import Clock
from ..identity.errors import TokenError
from ..identity.tokens import RELAY_AUDIENCES, Tokens
from .errors import Refused
from .model import HybridConnection, Namespace, Right, Rule, find_rule

ASSUMED_ENTRA_ROLES = frozenset({Right.LISTEN, Right.SEND})
"""Every principal of the tenant holds the roles Azure Relay Listener and Sender: roles are not simulated."""

ASSUMED_UNKNOWN_RULE_STATUS = 401
"""A token of a rule that is not there counts as invalid, not as one for another path."""


@dataclass(frozen=True, slots=True)
class Authorizer:
    """Checks tokens for one namespace."""

    namespace: Namespace
    tokens: Tokens
    clock: Clock

    def check(self, hybrid_connection: HybridConnection, token: str | None, right: Right) -> float:
        """Return when a token that gives this right expires. Raises Refused when it does not give it."""
        if not token:
            raise Refused(401, "The token is missing.")
        if token.startswith("SharedAccessSignature"):
            return self._check_signature(hybrid_connection, token, right)
        return self._check_entra(token, right)

    def _check_signature(
        self, hybrid_connection: HybridConnection, token: str, right: Right
    ) -> float:
        try:
            signature = sas.parse(token)
        except ProtocolError as error:
            raise Refused(401, str(error)) from None
        rule, scope = self._signing_rule(hybrid_connection, signature)
        if signature.expires_at <= self.clock():
            raise Refused(401, "The token has expired.")
        if not self._covers(signature.audience, hybrid_connection.name):
            raise Refused(403, "The token is for another path.")
        if scope and self._covers(signature.audience, scope.rpartition("/")[0]):
            raise Refused(403, "A rule of a hybrid connection signs for that one alone.")
        if right not in rule.rights and Right.MANAGE not in rule.rights:
            raise Refused(403, f"The token's rule does not give the right '{right}'.")
        return signature.expires_at

    def _signing_rule(
        self, hybrid_connection: HybridConnection, signature: sas.SharedAccessSignature
    ) -> tuple[Rule, str]:
        """Return the rule that signed, and the path that it belongs to ("" for the namespace's)."""
        name = signature.rule or ""
        for rules, scope in (
            (hybrid_connection.rules, hybrid_connection.name),
            (self.namespace.rules, ""),
        ):
            rule = find_rule(rules, name)
            if rule is not None and _is_signed_by(signature, rule):
                return rule, scope
        raise Refused(
            ASSUMED_UNKNOWN_RULE_STATUS, "The token's signature is wrong, or its rule is not known."
        )

    def _covers(self, audience: str, path: str) -> bool:
        return any(sas.covers(audience, host=host, path=path) for host in self.namespace.host_names)

    def _check_entra(self, token: str, right: Right) -> float:
        try:
            claims = self.tokens.verify(token, RELAY_AUDIENCES)
        except TokenError as error:
            raise Refused(401, str(error)) from None
        if right not in ASSUMED_ENTRA_ROLES:
            raise Refused(403, f"The token does not give the right '{right}'.")
        return float(claims["exp"])


def _is_signed_by(signature: sas.SharedAccessSignature, rule: Rule) -> bool:
    return any(
        signature.is_signed_with(sas.relay_key(key.reveal()))
        for key in (rule.keys.primary, rule.keys.secondary)
    )
