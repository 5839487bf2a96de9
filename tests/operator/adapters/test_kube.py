"""The finalizer's removal, and objects of a name that may be taken, against an API server that does what it is told."""

import copy

import pytest

from support.tunnels import tunnel_body
from tunnel_operator.adapters.kube import REMOVE_TRIES, KubeCluster
from tunnel_operator.adapters.kube_api import APPLY, JSON_PATCH, NotFoundError
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import FINALIZER, Tunnel
from tunnel_operator.core import backoff
from tunnel_operator.errors import ConflictError, Retryable, Terminal

OTHER = "example.com/first"


class OneTunnel:
    """Keeps one Tunnel; `meanwhile` is what others do to it before each patch arrives."""

    def __init__(self, *finalizers):
        self.body = tunnel_body()
        self.body["metadata"]["finalizers"] = list(finalizers)
        self.meanwhile = lambda: None
        self.is_closed = False
        self.patches = 0

    def tunnel(self):
        return Tunnel.from_dict(copy.deepcopy(self.body))

    def change(self, **metadata):
        version = str(int(self.body["metadata"]["resourceVersion"]) + 1)
        self.body["metadata"] |= metadata | {"resourceVersion": version}

    async def request(self, method, path, *, body=None, content_type=None, query=None):
        assert path.endswith("/namespaces/imaging/tunnels/mri-7")
        if method == "PATCH":
            assert (content_type, query) == (JSON_PATCH, {"fieldManager": "tunnel-operator"})
            self.patches += 1
            self.meanwhile()
            self._patch(body)
        if self.body is None:
            raise NotFoundError(Reason.NOT_FOUND, "gone")
        return copy.deepcopy(self.body)

    def _patch(self, operations):
        if self.body is None:
            return
        changed = copy.deepcopy(self.body)
        for operation in operations:
            _, first, second, *index = operation["path"].split("/")
            value = changed[first][second]
            seen = (value[int(i)] if int(i) < len(value) else None for i in index)
            if operation["op"] == "remove":
                del value[int(index[0])]
            elif next(seen, value) != operation["value"]:
                raise Terminal(Reason.REJECTED, "422: the test failed")
        if self.is_closed:
            raise Terminal(Reason.REJECTED, "422: no")
        self.body = changed
        self.change()


async def test_a_tunnel_that_this_version_can_not_read_is_no_fault_of_ours():
    api = OneTunnel()
    api.body["spec"]["ports"][0]["protocol"] = "UDP"
    with pytest.raises(Terminal, match=r"ports\.0\.protocol: Input should be 'HTTP'") as caught:
        await KubeCluster(api, dict).get_tunnel(Key("imaging", "mri-7"))
    assert caught.value.retry_after == backoff.TERMINAL


async def remove(api):
    return await KubeCluster(api, dict).set_finalizer(api.tunnel(), present=False)


async def test_takes_away_its_own_finalizer_and_no_other():
    api = OneTunnel(OTHER, FINALIZER)
    assert (await remove(api)).metadata.finalizers == (OTHER,)
    assert api.body["metadata"]["finalizers"] == [OTHER]
    assert (await remove(api)).metadata.finalizers == (OTHER,)
    assert api.patches == 1


async def test_tries_anew_where_the_list_has_changed_meanwhile():
    api = OneTunnel(OTHER, FINALIZER)

    def another_takes_its_own():
        if api.patches == 1:
            api.change(finalizers=[FINALIZER])

    api.meanwhile = another_takes_its_own
    assert (await remove(api)).metadata.finalizers == ()


async def test_leaves_a_later_namesake_alone():
    api = OneTunnel(FINALIZER)
    api.meanwhile = lambda: api.change(uid="another")
    assert await remove(api) is None
    assert api.body["metadata"]["finalizers"] == [FINALIZER]


async def test_what_has_gone_meanwhile_is_gone():
    api = OneTunnel(FINALIZER)
    api.meanwhile = lambda: setattr(api, "body", None)
    assert await remove(api) is None


async def test_says_so_when_it_is_refused_or_the_list_never_rests():
    api = OneTunnel(FINALIZER)
    api.is_closed = True
    with pytest.raises(Terminal, match="no"):
        await remove(api)
    assert api.patches == 1
    api = OneTunnel(FINALIZER)
    api.meanwhile = lambda: api.change(finalizers=[OTHER] * api.patches + [FINALIZER])
    with pytest.raises(Retryable, match=f"{REMOVE_TRIES} times"):
        await remove(api)
    assert api.patches == REMOVE_TRIES


def service(uid="uid-1", **metadata):
    owner = {"kind": "Tunnel", "name": "mri-7", "uid": uid}
    named = {"name": "mri-7", "namespace": "imaging", "ownerReferences": [owner]}
    return {"kind": "Service", "metadata": named | metadata}


class OneName:
    """Keeps the one object of a name, and counts what is asked."""

    def __init__(self, there=None):
        self.there = there
        self.asked = []
        self.first_answer = None

    async def request(self, method, path, *, body=None, content_type=None, query=None):
        assert path == "/api/v1/namespaces/imaging/services/mri-7"
        self.asked.append(method)
        if method == "GET":
            if self.there is None:
                raise NotFoundError(Reason.NOT_FOUND, "none")
            return self.there
        assert (content_type, query["force"]) == (APPLY, "true")
        if self.first_answer is not None:
            error, self.first_answer = self.first_answer, None
            raise error
        version = body["metadata"].pop("resourceVersion", None)
        if self.there is not None and version not in (
            None,
            self.there["metadata"]["resourceVersion"],
        ):
            raise ConflictError(Reason.UNAVAILABLE, "409: modified")
        self.there = body | {"metadata": body["metadata"] | {"resourceVersion": "7"}}
        return self.there

    async def apply(self, manifest, *, is_known=False):
        return await KubeCluster(self, dict).apply(manifest, is_known=is_known)


async def test_what_nobody_has_is_made_with_one_request():
    api = OneName()
    made = await api.apply(service())
    assert made["metadata"] == service(resourceVersion="7")["metadata"]
    assert api.asked == ["PATCH"]
    await api.apply(service(labels={"a": "b"}), is_known=True)
    assert api.there["metadata"]["labels"] == {"a": "b"}
    assert api.asked == ["PATCH", "PATCH"]


@pytest.mark.parametrize(
    ("owners", "error", "message"),
    [
        ([], Terminal, "'mri-7' already that does not belong to this Tunnel"),
        ([{"kind": "App", "name": "mri-7", "uid": "x"}], Terminal, "does not belong"),
        ([{"kind": "Tunnel", "name": "mri-7", "uid": "x"}], Retryable, "earlier Tunnel's"),
    ],
)
async def test_what_is_anothers_is_not_touched(owners, error, message):
    there = service(ownerReferences=owners, resourceVersion="3")
    api = OneName(copy.deepcopy(there))
    with pytest.raises(error, match=message) as caught:
        await api.apply(service())
    assert caught.value.reason is Reason.NAME_TAKEN
    assert api.there == there


async def test_what_is_ours_and_was_not_seen_is_put_right():
    api = OneName(service(resourceVersion="3"))
    await api.apply(service(labels={"a": "b"}))
    assert api.there["metadata"]["labels"] == {"a": "b"}


async def test_a_conflict_over_something_else_is_tried_again():
    api = OneName()
    api.first_answer = ConflictError(Reason.UNAVAILABLE, "409: resourcequotas: modified")
    await api.apply(service())
    assert api.asked == ["PATCH", "GET", "PATCH"]
    assert api.there is not None
