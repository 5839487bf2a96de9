"""The model world for long runs: its API server can be away as well."""

from support.operator_world import OperatorWorld
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.core.observed import Kind
from tunnel_operator.errors import Retryable


class FailingWorld(OperatorWorld):
    """The model world, whose API server can be away as well."""

    is_api_away = False

    def _step(self, name: str) -> None:
        super()._step(name)
        is_azures = name.startswith("arm ") or name.endswith("_device")
        if self.is_api_away and not is_azures:
            raise Retryable(Reason.UNAVAILABLE, "The Kubernetes API can not be reached.")

    def names(self) -> list[Key]:
        """Return all Tunnels that there are."""
        return list(self.cluster.tunnels)

    def reason(self, key: Key) -> str | None:
        """Return why a Tunnel is as it is; None when it is not there, or nothing has been said of it yet."""
        status = self.cluster.tunnels.get(key, {}).get("status", {})
        said = {c["type"]: c["reason"] for c in status.get("conditions", ())}
        return said.get("Ready")

    def child(self, key: Key, kind: Kind) -> dict | None:
        """Return a Tunnel's child, as it is."""
        name = key.name if kind is Kind.SERVICE else f"{key.name}-forwarder"
        return self.cluster.children.get((key.namespace, kind, name))

    def end_listeners(self) -> None:
        """Let the devices stop by themselves at the deadlines that they know."""
        for device, asked in self.azure.listening.items():
            if asked.expires_at <= self.now:
                self.azure.stop_listening(device)

    def run_node(self, key: Key) -> bool:
        """Let a tunnel's node and device do what they do by themselves; whether the Pod changed."""
        asked = self.azure.told(key.name)
        if asked is not None and asked.expires_at <= self.now:
            self.azure.stop_listening(key.name)
        body = self.child(key, Kind.POD)
        if body is None:
            return False
        before = body["metadata"]["resourceVersion"]
        self._run_pod(body)
        return bool(body["metadata"]["resourceVersion"] != before)
