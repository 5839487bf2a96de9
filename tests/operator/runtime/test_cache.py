from support.tunnels import a_class, a_tunnel, tunnel_body
from tunnel_operator.api.keys import Key
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.api.tunnel_class import DEFAULT_ANNOTATION
from tunnel_operator.core.observed import Kind
from tunnel_operator.runtime.cache import GONE_KEPT, Cache

KEY = Key("imaging", "mri-7")


def pod(version, uid="u1", **more):
    return {
        "kind": "Pod",
        "metadata": {
            "name": "mri-7-forwarder",
            "namespace": "imaging",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"tunnels.dev/tunnel": "mri-7"},
        },
        **more,
    }


def with_version(body, version):
    return {**body, "metadata": body["metadata"] | {"resourceVersion": version}}


def version(cache):
    return cache.children(KEY)[Kind.POD].body["metadata"]["resourceVersion"]


def test_a_watch_that_lags_behind_our_own_write_changes_nothing():
    cache = Cache()
    cache.put_child(pod(9))
    cache.put_child(pod(10))
    cache.put_child(pod(8))
    assert version(cache) == "10"


def test_the_end_of_an_earlier_namesake_does_not_remove_the_later():
    cache = Cache()
    cache.put_child(pod(10, uid="new"))
    assert cache.drop_child(pod(9, uid="old")) == KEY
    assert version(cache) == "10"
    cache.drop_child(pod(11, uid="new"))
    assert cache.children(KEY) == {}


def test_an_answer_that_comes_after_the_watch_reported_its_object_gone_brings_nothing_back():
    cache = Cache()
    cache.put_child(pod(10))
    cache.drop_child(pod(12))
    # The answer to our own delete: on its way out, which it has got to the end of meanwhile.
    assert cache.put_child(pod(11)) == KEY
    assert cache.children(KEY) == {}
    cache.put_child(pod(13, uid="u2"))
    assert version(cache) == "13"


def test_what_is_gone_is_remembered_for_a_bounded_number_of_objects():
    cache = Cache()
    for number in range(GONE_KEPT + 5):
        cache.drop_child(pod(number, uid=str(number)))
    assert len(cache._gone) == GONE_KEPT


def test_what_bears_no_label_of_ours_is_nobodys():
    cache = Cache()
    body = pod(1)
    body["metadata"]["labels"] = {}
    assert cache.put_child(body) is None


def test_a_secrets_data_is_not_kept():
    cache = Cache()
    cache.put_child({**pod(1), "kind": "Secret", "data": {"token": "x"}})
    assert "data" not in cache.children(KEY)[Kind.SECRET].body


def test_finds_a_tunnels_class_and_a_classs_tunnels():
    cache = Cache()
    default = a_class("b")
    default = default.model_copy(
        update={
            "metadata": default.metadata.model_copy(
                update={"annotations": {DEFAULT_ANNOTATION: "true"}}
            )
        }
    )
    cache.put_class(a_class("a"))
    cache.put_class(default)
    assert cache.class_of(a_tunnel(tunnelClassName="a")).metadata.name == "a"
    assert cache.class_of(a_tunnel(tunnelClassName=None)).metadata.name == "b"
    assert cache.class_of(a_tunnel(tunnelClassName="c")) is None
    cache.put_tunnel(a_tunnel(tunnelClassName=None))
    cache.put_tunnel(a_tunnel(name="y", tunnelClassName="a"))
    assert list(cache.tunnels_of("b")) == [KEY]
    cache.drop_tunnel(KEY)
    assert list(cache.tunnels_of("b")) == []


def test_the_watch_brings_no_news_of_our_own_newest_write():
    cache = Cache()
    cache.put_written(pod(10))
    assert not cache.is_news(KEY, pod(9))
    assert not cache.is_news(KEY, pod(10))
    assert cache.is_news(KEY, pod(11))
    cache.drop_child(pod(11))
    assert cache.is_news(KEY, pod(10))


def test_a_change_that_no_decision_reads_is_no_news():
    cache = Cache()
    cache.put_child(pod(1, status={"phase": "Pending"}))
    assert cache.is_news(KEY, pod(1))
    cache.put_child(pod(2, status={"phase": "Running", "podIP": "10.244.0.9"}))
    assert not cache.is_news(KEY, pod(2))
    cache.put_child(pod(3, status={"phase": "Failed"}))
    assert cache.is_news(KEY, pod(3))


def test_each_version_of_a_secret_is_news_since_its_token_is_not_kept():
    cache = Cache()
    for version in (1, 2):
        secret = pod(version, data={"config.json": "eyJ9"}) | {"kind": "Secret"}
        cache.put_child(secret)
        assert cache.is_news(KEY, secret)


def test_what_our_own_delete_ended_is_known_to_be_gone():
    cache = Cache()
    cache.put_child(pod(1))
    assert not cache.is_gone("u1")
    cache.drop_child(pod(1))
    assert cache.is_gone("u1")


def test_a_later_state_of_a_tunnel_is_known_of_and_not_taken_back():
    cache = Cache()
    early, late = (
        Tunnel.from_dict(with_version(tunnel_body(), version)) for version in ("7", "12")
    )
    cache.put_tunnel(late)
    cache.put_tunnel(early)
    assert cache.knows_newer(early)
    assert not cache.knows_newer(late)


def test_what_the_watch_brought_of_a_tunnel_is_taken_once():
    cache = Cache()
    first, second = (
        Tunnel.from_dict(with_version(tunnel_body(), version)) for version in ("7", "12")
    )
    cache.put_tunnel(first)
    assert cache.take_tunnel(KEY) is first
    assert cache.take_tunnel(KEY) is None
    cache.put_tunnel(first)
    assert cache.take_tunnel(KEY) is None
    cache.put_tunnel(second)
    cache.drop_tunnel(KEY)
    assert cache.take_tunnel(KEY) is None


def test_an_answer_to_our_own_write_brings_no_tunnel_back_that_is_gone_or_has_changed():
    cache = Cache()
    first, written, edited = (
        Tunnel.from_dict(with_version(tunnel_body(), version)) for version in ("7", "8", "9")
    )
    cache.put_tunnel(first)
    cache.drop_tunnel(KEY)
    cache.wrote_tunnel(written)
    assert len(cache) == 0
    cache.put_tunnel(edited)
    cache.wrote_tunnel(written)
    assert cache.take_tunnel(KEY) is edited


def test_what_was_brought_before_our_own_write_is_not_taken():
    cache = Cache()
    cache.put_tunnel(Tunnel.from_dict(with_version(tunnel_body(), "7")))
    cache.wrote_tunnel(Tunnel.from_dict(with_version(tunnel_body(), "12")))
    assert cache.take_tunnel(KEY) is None


def test_a_pod_is_kept_without_what_no_decision_needs():
    cache = Cache()
    status = {
        "phase": "Running",
        "podIP": "10.244.0.9",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "now"}],
        "containerStatuses": [{"state": {"running": {}}, "imageID": "long"}],
    }
    cache.put_child(pod(1, spec={"containers": []}, status=status))
    assert cache.children(KEY)[Kind.POD].body == pod(
        1,
        status={
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"state": {}, "lastState": {}}],
        },
    )
