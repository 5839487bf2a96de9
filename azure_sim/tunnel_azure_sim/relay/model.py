"""Relay namespaces, their hybrid connections and rules: what ARM changes and the data plane reads."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from ..state import KeyPair

ROOT_RULE = "RootManageSharedAccessKey"
"""Each namespace is born with it; it has all rights (documentation "Azure Relay authentication")."""

ASSUMED_CASELESS_NAMES = True
"""Names of hybrid connections and rules are told apart without regard to case, as Service Bus does."""

MAX_LISTENERS = 25
MAX_RULES = 12
MAX_CONNECTIONS = 5000
"""Listeners of a hybrid connection, rules of a level, connections of a namespace (Azure Relay FAQ)."""


class Right(StrEnum):
    """What a rule allows."""

    LISTEN = "Listen"
    SEND = "Send"
    MANAGE = "Manage"


@dataclass(slots=True)
class Rule:
    """A named pair of keys with rights. The keys change when they are regenerated."""

    name: str
    rights: frozenset[Right]
    keys: KeyPair = field(repr=False)


class Socket(Protocol):
    """A socket that belongs to a hybrid connection and ends with it."""

    def shut(self, code: int, reason: str) -> None:
        """End it from the service's side, with a Close frame; ended already counts as ended."""

    def cut(self) -> None:
        """End it without a word, as a lost connection does."""

    def freeze(self) -> None:
        """Leave it half open: nothing more is read or sent, and the peer is told nothing."""


class Listener(Socket, Protocol):
    """A control channel that can be told of senders."""

    def offer(self, message: str, body: bytes | None = None) -> bool:
        """Send an accept or request message, and a request's body; False when the listener does not keep up with its channel."""

    @property
    def host(self) -> str:
        """The `host[:port]` by which this listener reached us, and so can again."""


class WaitingSender(Protocol):
    """A sender whose upgrade hangs until a listener accepts."""

    def refuse(self, status: int, sentence: str) -> None:
        """Answer the upgrade with a status."""


@dataclass(slots=True)
class HybridConnection:
    """One rendezvous point with its settings and all that is live on it."""

    name: str
    created_at: datetime
    updated_at: datetime
    requires_client_authorization: bool = True
    user_metadata: str | None = None
    rules: dict[str, Rule] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    streams: dict[Socket, None] = field(default_factory=dict)
    """A set in the order of their beginnings."""

    waiting: set[WaitingSender] = field(default_factory=set)

    def shut_all(self, code: int, reason: str) -> None:
        """End every socket and refuse every waiting sender."""
        for sender in tuple(self.waiting):
            sender.refuse(404, reason)
        for socket in (*self.listeners, *self.streams):
            socket.shut(code, reason)


@dataclass(slots=True)
class Namespace:
    """A relay namespace. Its mappings have lower-case names as keys (ASSUMED_CASELESS_NAMES)."""

    name: str
    host_names: tuple[str, ...]
    created_at: datetime
    rules: dict[str, Rule] = field(default_factory=dict)
    hybrid_connections: dict[str, HybridConnection] = field(default_factory=dict)
    network_rules: dict[str, Any] = field(default_factory=dict)
    """As ARM was given them; nothing is refused for them."""

    def get(self, name: str) -> HybridConnection | None:
        """Return a hybrid connection by its name."""
        return self.hybrid_connections.get(name.lower())

    def add(self, hybrid_connection: HybridConnection) -> None:
        """Make a hybrid connection known."""
        self.hybrid_connections[hybrid_connection.name.lower()] = hybrid_connection

    def remove(self, name: str) -> bool:
        """Forget a hybrid connection and end its sockets with 1001; False when there is none.

        1001 is the documented code for "deleted or disabled" ("Hybrid Connections protocol").
        """
        gone = self.hybrid_connections.pop(name.lower(), None)
        if gone is None:
            return False
        gone.shut_all(1001, "The hybrid connection has been deleted.")
        return True

    def match(self, segments: tuple[str, ...]) -> tuple[HybridConnection, tuple[str, ...]] | None:
        """Find the hybrid connection that a path names, and the suffix that follows; the longest wins."""
        for length in range(len(segments), 0, -1):
            found = self.get("/".join(segments[:length]))
            if found is not None:
                return found, segments[length:]
        return None


def find_rule(rules: dict[str, Rule], name: str) -> Rule | None:
    """Return a rule by its name."""
    return rules.get(name.lower())


def rule_rights(names: Iterable[str]) -> frozenset[Right]:
    """Read the names of rights. Raises ValueError for an unknown one."""
    return frozenset(Right(name) for name in names)
