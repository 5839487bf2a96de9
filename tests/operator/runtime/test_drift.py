"""What somebody changes by hand, in Azure or in the cluster, is put back."""

import base64
import copy
import json
from datetime import timedelta

import pytest

from support.tunnels import ONE_PORT, a_class, tunnel_body
from tunnel_azure_sim.relay.model import HybridConnection, Right
from tunnel_operator.core.children import DOUBT_AFTER
from tunnel_operator.core.looks import POLL, RULES_AGAIN
from tunnel_operator.core.observed import Kind

SEND, LISTEN = "tunnel-send-0f1e2d3c", "tunnel-listen-0f1e2d3c"


@pytest.fixture
async def key(world):
    """Return the key of a tunnel that is open."""
    key = world.apply(tunnel_body(ttl="10h", idleTimeout="0s"))
    await world.settle(key)
    assert world.ready(key) == ("True", "Open")
    return key


def rights(world):
    [connection] = world.azure.connections.values()
    return {name: set(rule.rights) for name, rule in connection.rules.items()}


async def test_a_right_that_was_taken_away_is_given_back_as_soon_as_it_is_missed(world, key):
    [connection] = world.azure.connections.values()
    connection.rules[SEND].rights = frozenset({Right.LISTEN})
    world.run_kubelet()
    await world.pass_time(key, timedelta(minutes=1))
    assert rights(world) == {SEND: {Right.SEND}, LISTEN: {Right.LISTEN}}
    assert world.ready(key) == ("True", "Open")


async def test_a_right_that_was_added_is_taken_away_again(world, key):
    [connection] = world.azure.connections.values()
    connection.rules[SEND].rights = frozenset({Right.SEND, Right.LISTEN})
    await world.pass_time(key, RULES_AGAIN + POLL)
    assert rights(world) == {SEND: {Right.SEND}, LISTEN: {Right.LISTEN}}
    assert world.ready(key) == ("True", "Open")
    assert world.azure.calls["ensure"] == 2


async def test_senders_need_a_token_again(world, key):
    [connection] = world.azure.connections.values()
    connection.requires_client_authorization = False
    await world.pass_time(key, 2 * POLL)
    assert connection.requires_client_authorization
    assert world.ready(key) == ("True", "Open")
    assert world.azure.calls["ensure"] == 2


class Stubborn(HybridConnection):
    """One of which Azure does not change whether senders need a token, without a word."""

    requires_client_authorization = property(lambda _: False, lambda *_: None)


async def test_people_are_told_that_senders_need_no_token_when_that_can_not_be_changed(world, key):
    [found] = world.azure.connections.values()
    made = Stubborn(found.name, world.now, world.now, user_metadata=found.user_metadata)
    made.rules, made.listeners = found.rules, found.listeners
    world.azure.add(made)
    await world.pass_time(key, 3 * POLL)
    assert world.ready(key) == ("False", "Rejected")
    assert world.azure.calls["ensure"] <= 4
    world.azure.remove()
    await world.pass_time(key, 2 * POLL)
    assert world.ready(key) == ("True", "Open")


async def test_a_borrowed_hybrid_connection_is_left_as_it_is_but_for_our_rule(world):
    world.classes = [a_class(hybridConnectionNaming="Device", portName="test")]
    world.start_operator()
    there = HybridConnection(
        "mri-7", world.now, world.now, requires_client_authorization=False, user_metadata="theirs"
    )
    world.azure.add(there)
    key = world.apply(tunnel_body(**ONE_PORT, ttl="10h", idleTimeout="0s"))
    await world.settle(key)
    there.rules[SEND].rights = frozenset({Right.SEND, Right.MANAGE, Right.LISTEN})
    await world.pass_time(key, RULES_AGAIN + POLL)
    assert rights(world) == {SEND: {Right.SEND}}
    assert world.ready(key) == ("True", "Open")
    assert (there.requires_client_authorization, there.user_metadata) == (False, "theirs")


def edited(world, kind, change):
    """Let somebody change a child, and the watch bring that; return what it was."""
    body = world.cluster.child(kind)
    before = copy.deepcopy(body)
    change(body)
    world.cluster.touch(body)
    world.cache.put_child(copy.deepcopy(body))
    return before


@pytest.mark.parametrize("label", ["tunnels.dev/tunnel", "app.kubernetes.io/name"])
@pytest.mark.parametrize("kind", [Kind.POD, Kind.SECRET, Kind.SERVICE])
async def test_a_label_is_put_back_in_place(world, key, kind, label):
    before = edited(world, kind, lambda body: body["metadata"]["labels"].update({label: "other"}))
    await world.settle(key)
    after = world.cluster.child(kind)
    assert after["metadata"]["labels"] == before["metadata"]["labels"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert world.ready(key) == ("True", "Open")


@pytest.mark.parametrize("kind", [Kind.POD, Kind.SECRET])
async def test_an_owner_that_was_taken_away_is_given_back(world, key, kind):
    before = edited(world, kind, lambda body: body["metadata"].pop("ownerReferences"))
    await world.settle(key)
    owners = world.cluster.child(kind)["metadata"]["ownerReferences"]
    assert owners == before["metadata"]["ownerReferences"]


def never_idle(body):
    settings = json.loads(base64.b64decode(body["data"]["settings.json"]))
    text = json.dumps(settings | {"idleSeconds": 1})
    body["data"]["settings.json"] = base64.b64encode(text.encode()).decode()


def another_token(body):
    body["data"]["token"] = base64.b64encode(b"SharedAccessSignature sr=theirs").decode()


def no_token(body):
    del body["data"]["token"]


@pytest.mark.parametrize("change", [never_idle, another_token, no_token])
@pytest.mark.parametrize("is_unseen", [False, True])
async def test_what_the_forwarder_is_told_is_put_back(world, key, change, is_unseen):
    before = edited(world, Kind.SECRET, change)
    if is_unseen:
        # It happened while no operator was there.
        world.start_operator()
    await world.settle(key)
    assert world.cluster.child(Kind.SECRET)["data"] == before["data"]
    secret, pod = world.cluster.child(Kind.SECRET), world.cluster.child(Kind.POD)
    told = pod["metadata"]["annotations"]["tunnels.dev/secret-version"]
    assert told == secret["metadata"]["resourceVersion"]
    assert world.ready(key) == ("True", "Open")


async def test_what_somebody_adds_is_theirs_and_causes_no_end_of_writes(world, key):
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "theirs", "uid": "theirs"}

    def more(body):
        body["metadata"]["labels"]["example.com/team"] = "imaging"
        body["metadata"]["annotations"]["example.com/note"] = "hands off"
        body["metadata"]["ownerReferences"].append(reference)
        body.setdefault("data", {})["more"] = "bW9yZQ=="

    secrets = world.cluster.writes["Secret"]
    for kind in (Kind.SECRET, Kind.POD):
        edited(world, kind, more)
        await world.reconcile(key)
    assert world.cluster.writes["Secret"] == secrets


async def test_a_secret_that_an_earlier_operator_wrote_is_left_as_it_is(world, key):
    """It had no digest of the token. An upgrade is no reason to read all keys."""
    secret = world.cluster.child(Kind.SECRET)
    del secret["metadata"]["annotations"]["tunnels.dev/token-digest"]
    writes, keys = dict(world.cluster.writes), world.azure.calls["key"]
    world.now += DOUBT_AFTER
    world.start_operator()
    await world.settle(key)
    assert dict(world.cluster.writes) == writes
    assert world.azure.calls["key"] == keys
