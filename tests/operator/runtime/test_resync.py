import copy

import pytest
import structlog

from support.operator_world import OperatorWorld
from support.tunnels import class_body, tunnel_body
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.core.observed import Kind
from tunnel_operator.errors import Retryable
from tunnel_operator.runtime.cache import Cache
from tunnel_operator.runtime.resync import Resync


class WorldInventory:
    """What the world's API server would list."""

    kinds = tuple(Kind)

    def __init__(self, world, classes=None):
        self.world = world
        self.listed_classes = classes
        self.is_away = False

    async def tunnels(self):
        if self.is_away:
            raise Retryable(Reason.UNAVAILABLE, "The Kubernetes API can not be reached.")
        for body in copy.deepcopy(list(self.world.cluster.tunnels.values())):
            yield body

    async def classes(self):
        return self.listed_classes

    async def namespaces(self):
        return [
            {"metadata": {"name": name, "labels": labels}}
            for name, labels in self.world.cluster.namespaces.items()
        ]

    async def children(self, kind):
        found = self.world.cluster.children.items()
        for body in [copy.deepcopy(body) for (_, k, _), body in found if k is kind]:
            yield body


async def listed(*bodies):
    for body in bodies:
        yield body


@pytest.fixture
async def world():
    world = OperatorWorld()
    world.azure.online.add("mri-7")
    world.key = world.apply(tunnel_body())
    await world.settle(world.key)
    world.added = []
    world.inventory = WorldInventory(world)
    world.resync = Resync(world.cache, world.inventory, world.added.append)
    return world


async def test_adds_nothing_when_the_watches_told_all(world):
    await world.resync.compare()
    assert world.added == []


@pytest.mark.parametrize("kind", [Kind.POD, Kind.SECRET, Kind.SERVICE])
async def test_a_child_that_went_unseen_is_made_again(world, kind):
    [where] = [where for where in world.cluster.children if where[1] is kind]
    del world.cluster.children[where]
    await world.settle(world.key)
    assert where not in world.cluster.children
    await world.resync.compare()
    assert world.added == [world.key]
    await world.settle(world.key)
    assert where in world.cluster.children
    assert world.ready(world.key) == ("True", "Open")


async def test_a_child_that_was_changed_unseen_is_looked_at(world):
    service = world.cluster.child(Kind.SERVICE)
    service["spec"]["selector"] = {"somebody": "else"}
    world.cluster.touch(service)
    await world.resync.compare()
    assert world.added == [world.key]


async def test_a_namespace_that_was_changed_unseen_has_its_tunnels_looked_at(world):
    world.cluster.namespaces = {"imaging": {"team": "imaging"}, "elsewhere": {}}
    await world.resync.compare()
    assert world.added == [world.key]
    assert world.cache.namespace_labels("imaging") == {"team": "imaging"}
    await world.resync.compare()
    assert world.added == [world.key]


async def test_a_tunnel_that_came_was_changed_or_went_unseen_is_looked_at(world):
    other = tunnel_body("mri-8", uid="another")
    body = world.cluster.tunnels[world.key]
    new_key = (body["metadata"]["namespace"], "mri-8")
    world.cluster.tunnels[new_key] = other
    await world.resync.compare()
    assert world.added == [new_key]
    world.added.clear()
    del world.cluster.tunnels[new_key]
    body["metadata"]["generation"] += 1
    await world.resync.compare()
    assert sorted(world.added) == sorted([world.key, new_key])
    assert world.cache.tunnels().keys() == {world.key}


async def test_a_tunnel_that_goes_while_the_list_is_read_is_not_brought_back(world):
    [body] = [copy.deepcopy(body) for body in world.cluster.tunnels.values()]
    world.inventory.tunnels = lambda: listed(body)
    world.cache.drop_tunnel(world.key, *world.cache.tunnels()[world.key])
    await world.resync.compare()
    assert not world.cache.has_tunnel(world.key)


async def test_a_namesake_that_came_while_the_list_was_read_is_not_taken_for_gone(world):
    other = tunnel_body(uid="another")

    async def nothing():
        world.cluster.touch(other)
        world.cache.put_tunnel(Tunnel.from_dict(other))
        return
        yield

    world.inventory.tunnels = nothing
    await world.resync.compare()
    [(uid, _)] = world.cache.tunnels().values()
    assert uid == "another"


async def test_a_tunnel_that_was_deleted_unseen_is_looked_at(world):
    world.cluster.tunnels[world.key]["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    await world.resync.compare()
    assert world.added == [world.key]


async def test_a_class_that_was_changed_or_went_unseen_has_its_tunnels_looked_at(world):
    body = class_body()
    world.inventory.listed_classes = [body]
    await world.resync.compare()
    assert world.added == []
    body["metadata"]["generation"] += 1
    await world.resync.compare()
    assert world.added == [world.key]
    world.inventory.listed_classes = []
    await world.resync.compare()
    assert world.added == [world.key] * 2
    assert world.cache.classes() == []


async def test_what_this_version_can_not_read_keeps_nothing_else_from_being_seen(world):
    unreadable = tunnel_body("mri-1", ports=[{"name": "dns", "port": 53, "protocol": "UDP"}])
    old_bodies = dict(world.cluster.tunnels)
    world.cluster.tunnels = {Key("imaging", "mri-1"): unreadable} | old_bodies
    strange = class_body("strange", deletionPolicy="Archive")
    world.inventory.listed_classes = [strange, class_body()]
    cache, added = Cache(), []
    with structlog.testing.capture_logs() as lines:
        assert await Resync(cache, world.inventory, added.append).fill() == 1
    assert set(added) == {world.key}
    assert [klass.metadata.name for klass in cache.classes()] == ["azure"]
    said = [line for line in lines if line["event"].endswith(".unreadable")]
    assert [line.get("tunnel") or line["tunnel_class"] for line in said] == [
        "strange",
        "imaging/mri-1",
    ]
    assert said[1]["message"] == "spec.ports.0.protocol: Input should be 'HTTP', 'HTTPS' or 'TCP'"


async def test_a_class_that_can_not_be_read_any_more_counts_as_gone(world):
    world.inventory.listed_classes = [class_body(deletionPolicy="Archive")]
    await world.resync.compare()
    assert world.added == [world.key]
    await world.settle(world.key)
    assert world.ready(world.key) == ("True", "Open")
    assert world.tunnel(world.key).status.condition("Accepted").reason == "ClassDeleted"
    other = world.apply(tunnel_body("mri-8", uid="another"))
    await world.settle(other)
    assert world.ready(other) == ("False", "ClassNotFound")


async def test_at_the_beginning_all_is_known_and_every_tunnel_looked_at(world):
    cache, added = Cache(), []
    world.inventory.is_away = True
    waits = []

    async def sleep(seconds):
        waits.append(seconds)
        world.inventory.is_away = len(waits) < 3

    assert await Resync(cache, world.inventory, added.append).fill(sleep) == 1
    assert waits == sorted(waits)
    assert len(waits) == 3
    assert set(added) == {world.key}
    assert cache.children(world.key).keys() == world.cache.children(world.key).keys()


async def test_goes_on_when_the_api_is_away(world):
    class EnoughError(Exception):
        pass

    world.inventory.is_away = True
    rounds = 0

    async def sleep(_):
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        await world.resync.run(sleep)
