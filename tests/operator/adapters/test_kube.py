"""The finalizer's removal, against an API server that does what JSON patches say."""

import copy

import pytest

from support.tunnels import tunnel_body
from tunnel_operator.adapters.kube import REMOVE_TRIES, KubeCluster
from tunnel_operator.adapters.kube_api import JSON_PATCH, NotFoundError
from tunnel_operator.api.keys import Key
from tunnel_operator.api.reasons import Reason
from tunnel_operator.api.tunnel import FINALIZER, Tunnel
from tunnel_operator.core import backoff
from tunnel_operator.errors import Retryable, Terminal

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
