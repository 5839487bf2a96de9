from datetime import timedelta

from support.tunnels import NOON, UID, a_class, a_tunnel, tunnel_body
from tunnel_operator.api.keys import Key
from tunnel_operator.api.tunnel import Tunnel
from tunnel_operator.api.tunnel_class import DEFAULT_ANNOTATION
from tunnel_operator.core.manifests import digests
from tunnel_operator.core.observed import Kind
from tunnel_operator.runtime.cache import GONE_KEPT, Cache

KEY = Key("imaging", "mri-7")
SECOND = timedelta(seconds=1)


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
    assert cache.put_child(pod(11)) is None
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
    kept = cache.children(KEY)[Kind.SECRET].body["data"]
    assert kept == digests({"token": "x"})
    assert "x" not in kept.values()


def test_a_child_whose_label_was_changed_is_its_owners():
    cache = Cache()
    body = pod(1)
    body["metadata"]["ownerReferences"] = [{"kind": "Tunnel", "name": "mri-7", "uid": "t1"}]
    body["metadata"]["labels"] = {"tunnels.dev/tunnel": "another"}
    assert cache.put_child(body) == KEY


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
    cache.drop_tunnel(KEY, *cache.tunnels()[KEY])
    assert list(cache.tunnels_of("b")) == []


def test_the_watch_brings_no_news_of_our_own_newest_write():
    cache = Cache()
    cache.put_child(pod(10))
    assert cache.put_child(pod(9)) is None
    assert cache.put_child(pod(10)) is None
    assert cache.put_child(pod(11, status={"phase": "Failed"})) == KEY
    cache.drop_child(pod(11))
    assert cache.put_child(pod(12, uid="u2")) == KEY


def test_a_change_that_no_decision_reads_is_no_news():
    cache = Cache()
    assert cache.put_child(pod(1, status={"phase": "Pending"})) == KEY
    assert cache.put_child(pod(2, status={"phase": "Running", "podIP": "10.244.0.9"})) is None
    assert version(cache) == "2"
    assert cache.put_child(pod(3, status={"phase": "Failed"})) == KEY


def test_each_version_of_a_secret_is_news_since_its_token_is_not_kept():
    cache = Cache()
    for number in (1, 2):
        secret = pod(number, data={"config.json": "eyJ9"}) | {"kind": "Secret"}
        assert cache.put_child(secret) == KEY


def test_the_end_of_a_child_is_news_once():
    cache = Cache()
    cache.put_child(pod(1))
    assert cache.drop_child(pod(1), for_good=True) == KEY
    # The watch's word of what our own delete ended.
    assert cache.put_child(pod(2, status={"phase": "Failed"})) is None
    assert cache.drop_child(pod(3)) is None
    assert cache.children(KEY) == {}


def test_a_child_that_has_its_label_back_is_known_again():
    cache = Cache()
    cache.put_child(pod(10))
    assert cache.drop_child(pod(11)) == KEY
    # Our own write, by which it has the label again, and the watch's word of that.
    assert cache.put_child(pod(12)) == KEY
    assert cache.put_child(pod(12)) is None
    assert version(cache) == "12"
    assert cache.drop_child(pod(13)) == KEY
    assert cache.put_child(pod(12)) is None
    assert cache.children(KEY) == {}


def test_an_end_that_a_later_state_has_overtaken_ends_nothing():
    cache = Cache()
    cache.put_child(pod(10))
    # Somebody took the label off (11); a write of ours has put it on before the watch told us.
    cache.put_child(pod(12))
    assert cache.drop_child(pod(11)) is None
    assert version(cache) == "12"


def versions(*numbers):
    return (Tunnel.from_dict(with_version(tunnel_body(), str(number))) for number in numbers)


def test_a_later_state_of_a_tunnel_is_known_of_and_not_taken_back():
    cache = Cache()
    early, late = versions(7, 12)
    assert not cache.is_newest(late)
    cache.put_tunnel(late)
    cache.put_tunnel(early)
    assert not cache.is_newest(early)
    assert cache.is_newest(late)
    assert cache.tunnel(KEY) == late


def test_a_tunnel_is_kept_as_it_was_brought():
    status = {
        "observedGeneration": 1,
        "tunnelClassName": "azure",
        "openedAt": "2026-03-01T12:00:00Z",
        "expiresAt": "2026-03-01T13:30:00Z",
        "device": {"agent": "sim/1", "revision": "r"},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Open",
                "message": "Öffnungszeit: 1 h",
                "lastTransitionTime": "2026-03-01T12:00:00Z",
                "observedGeneration": 1,
            }
        ],
    }
    expose = {"ingress": {"host": "mri-7.tunnels.test"}}
    whole = Tunnel.from_dict(
        tunnel_body(ttl="1h30m", expose=expose, suspend=True) | {"status": status}
    )
    cache = Cache()
    cache.put_tunnel(whole)
    assert cache.tunnel(KEY) == whole


def test_a_tunnel_that_is_gone_is_not_known():
    cache = Cache()
    [first] = versions(7)
    assert cache.tunnel(KEY) is None
    cache.put_tunnel(first)
    cache.drop_tunnel(KEY, UID, 8)
    assert cache.tunnel(KEY) is None
    assert not cache.is_newest(first)


def test_a_tunnel_that_is_gone_is_not_brought_back_by_what_was_read_of_it_before():
    cache = Cache()
    first, later, latest = versions(7, 8, 10)
    cache.put_tunnel(first)
    cache.drop_tunnel(KEY, UID, 9)
    cache.put_tunnel(later)
    assert not cache.has_tunnel(KEY)
    # What a list left out that is there after all is not lost for good.
    cache.put_tunnel(latest)
    cache.drop_tunnel(KEY, UID, 9)
    assert cache.tunnel(KEY) == latest


def test_the_end_of_an_earlier_namesake_does_not_remove_the_later_tunnel():
    cache = Cache()
    later = Tunnel.from_dict(tunnel_body(uid="another"))
    cache.put_tunnel(later)
    [(_, version)] = cache.tunnels().values()
    cache.drop_tunnel(KEY, UID, version + 1)
    assert cache.tunnel(KEY) == later
    cache.drop_tunnel(KEY, "another", version + 1)
    assert not cache.has_tunnel(KEY)


def test_an_answer_to_our_own_write_brings_no_tunnel_back_that_is_gone_or_has_changed():
    cache = Cache()
    first, written, edited = versions(7, 8, 9)
    cache.put_tunnel(first)
    cache.drop_tunnel(KEY, UID, 7)
    cache.wrote_tunnel(written, is_ours=True)
    assert len(cache) == 0
    cache.put_tunnel(edited)
    for is_ours in (True, False):
        cache.wrote_tunnel(written, is_ours=is_ours)
        assert cache.tunnel(KEY) == edited


def test_what_a_write_of_ours_returned_is_known_and_no_news_when_the_watch_brings_it():
    cache = Cache()
    before, written = versions(7, 12)
    cache.put_tunnel(before)
    cache.wrote_tunnel(written, is_ours=True)
    assert not cache.is_news(KEY, "12")
    assert cache.tunnel(KEY) == written


def test_the_end_of_a_tunnel_is_known_from_the_write_that_brought_it_about():
    cache = Cache()
    [going] = versions(7)
    metadata = going.metadata.model_copy(update={"deletion_timestamp": NOON})
    gone = going.model_copy(update={"metadata": metadata})
    cache.put_tunnel(going)
    cache.wrote_tunnel(gone, is_ours=True)
    assert cache.tunnel(KEY).is_gone
    assert not cache.is_news(KEY, "7")


def test_a_tunnel_that_somebody_else_changed_beside_our_write_is_not_known_until_the_watch_brings_it():
    cache = Cache()
    before, written, changed = versions(7, 12, 14)
    cache.put_tunnel(before)
    cache.wrote_tunnel(written, is_ours=True)
    cache.wrote_tunnel(changed, is_ours=False)
    assert cache.tunnel(KEY) is None
    assert cache.is_newest(changed)
    assert cache.is_news(KEY, "14")
    cache.put_tunnel(changed)
    assert cache.tunnel(KEY) == changed


def test_what_a_write_returned_is_not_taken_after_another_has_found_nothing():
    cache = Cache()
    before, written = versions(7, 12)
    cache.put_tunnel(before)
    cache.wrote_tunnel(written, is_ours=True)
    cache.found_gone(KEY)
    assert cache.tunnel(KEY) is None


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
        1, status={"conditions": [{"type": "Ready", "status": "True"}]}
    )
