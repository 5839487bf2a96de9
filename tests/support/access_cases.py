"""Cases of access: for the operator's own check and for the policy at admission, which have to agree."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from support.tunnels import GATEWAY, a_class, class_body, tunnel_body
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.core.terms import Terms, agree

NAMESPACES: dict[str, dict[str, str]] = {
    "access-imaging": {"team": "imaging", "site": "north"},
    "access-lab": {"team": "lab"},
    "access-plain": {},
}

ONE_PORT = [{"name": "web", "port": 80, "target": "localhost:8080", "protocol": "HTTP"}]
TWO_PORTS = [*ONE_PORT, {"name": "ssh", "port": 2222, "target": "[::1]:22"}]


@dataclass(frozen=True)
class Case:
    """One class, and one Tunnel in one namespace."""

    class_name: str
    class_spec: dict[str, Any]
    namespace: str
    tunnel_spec: dict[str, Any]

    @property
    def klass(self) -> dict[str, Any]:
        """Return the class as people write it."""
        body = class_body(self.class_name, **self.class_spec)
        return {**body, "metadata": {"name": self.class_name}}

    def tunnel(self, name: str) -> dict[str, Any]:
        """Return the Tunnel as people write it."""
        spec = {"tunnelClassName": self.class_name, "device": {"id": "mri-7"}, **self.tunnel_spec}
        body = tunnel_body(name, **spec)
        return {**body, "metadata": {"name": name, "namespace": self.namespace}}

    def refusal(self) -> str | None:
        """Return what the operator has against it."""
        labels = {**NAMESPACES[self.namespace], "kubernetes.io/metadata.name": self.namespace}
        terms = agree(
            Tunnel.from_dict(self.tunnel("mri-7")),
            a_class(self.class_name, **self.class_spec),
            default_image="any",
            namespace_labels=labels,
        )
        return None if isinstance(terms, Terms) else terms.message


def random_cases(seed: int, *, classes: int, tunnels: int) -> Iterator[Case]:
    """Yield cases of which a good part is allowed; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - not a secret
    for number in range(classes):
        spec: dict[str, Any] = {"limits": {"defaultTTL": "1h", "maxTTL": "8h"}}
        if dice.random() < 0.9:
            spec["access"] = [_rule(dice) for _ in range(dice.randint(1, 3))]
        if dice.random() < 0.15:
            spec["portName"] = "test"
        spec["exposure"] = {"gateway": GATEWAY} | _allowed_ways(dice)
        for _ in range(tunnels):
            yield Case(f"access-{number}", spec, dice.choice(list(NAMESPACES)), _tunnel(dice))


def _rule(dice: random.Random) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if dice.random() < 0.6:
        rule["namespaces"] = _selector(dice)
    if dice.random() < 0.6:
        rule["devices"] = dice.sample(_GLOBS, dice.randint(1, 3))
    if dice.random() < 0.5:
        rule["ports"] = dice.choice([[8080], [22, 8080], [22], [1, 2, 3]])
    if dice.random() < 0.4:
        rule["maxTTL"] = dice.choice(["30m", "2h", "4h"])
    return rule


def _allowed_ways(dice: random.Random) -> dict[str, Any]:
    exposure: dict[str, Any] = {}
    if dice.random() < 0.3:
        exposure["domain"] = "made.test"
    if dice.random() < 0.7:
        some = [["NodePort"], ["LoadBalancer", "ClusterIP"], [], ["NodePort", "LoadBalancer"]]
        exposure["allowedServiceTypes"] = dice.choice(some)
    if dice.random() < 0.7:
        exposure["allowedServiceAnnotations"] = dice.choice(
            [["a.test/*"], ["a.test/b"], ["*"], [], ["x", "*/b"]]
        )
    if dice.random() < 0.5:
        exposure["allowedDomains"] = dice.choice([["tunnels.test"], [], ["a.test", "b.c.test"]])
    return exposure


def _selector(dice: random.Random) -> dict[str, Any]:
    expressions = [
        {"key": "team", "operator": "In", "values": ["imaging", "lab"]},
        {"key": "team", "operator": "NotIn", "values": ["lab"]},
        {"key": "site", "operator": "Exists"},
        {"key": "site", "operator": "DoesNotExist"},
        {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["access-plain"]},
    ]
    selector: dict[str, Any] = {}
    if dice.random() < 0.5:
        selector["matchLabels"] = dice.choice([{}, {"team": "imaging"}, {"site": "south"}])
    if dice.random() < 0.5:
        selector["matchExpressions"] = dice.sample(expressions, dice.randint(0, 2))
    return selector


def _tunnel(dice: random.Random) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "device": {"id": dice.choice(["mri-7", "ct-1", "ct.1", "mri(7)+", "m*", "pump"])},
        "ports": dice.choice([ONE_PORT, TWO_PORTS, [{"name": "ssh", "port": 22}]]),
    }
    if dice.random() < 0.6:
        spec["ttl"] = dice.choice(["30m", "1h", "2h", "5h", "9h"])
    if dice.random() < 0.6:
        spec["expose"] = _ways(dice, spec["ports"][0])
    return spec


def _ways(dice: random.Random, port: dict[str, Any]) -> dict[str, Any]:
    ways: dict[str, Any] = {}
    if dice.random() < 0.6:
        kind = dice.choice(["ClusterIP", "NodePort", "LoadBalancer"])
        keys = dice.choice([[], ["a.test/b"], ["a.test/b", "axtest/b"], ["x"]])
        ways["service"] = {"type": kind, "annotations": dict.fromkeys(keys, "v")}
    if port.get("protocol") == "HTTP":
        if dice.random() < 0.4:
            ways["ingress"] = {"host": dice.choice(_HOSTS)}
        if dice.random() < 0.3:
            ways["gateway"] = {"http": {"host": dice.choice(_HOSTS)}}
    elif dice.random() < 0.4:
        ways["gateway"] = {
            "tls": {"portName": port["name"], "host": dice.choice(_HOSTS)},
            "tcp": {"portName": port["name"]},
        }
    return ways


_HOSTS = ["tunnels.test", "mri.tunnels.test", "xtunnels.test", "mri.made.test", "a.b.c.test"]
_GLOBS = ["mri-*", "*", "ct.1", "ct-1", "*7*", "m*", "mri(7)+", "mri(*)+", "**p", "pum?", "*-*-*"]
