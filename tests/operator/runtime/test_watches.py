import asyncio

import pytest

from tunnel_operator.runtime.watches import LONGEST_SILENCE, Watch, Watches, watch_of

PODS, TUNNELS = "/api/v1/pods", "/apis/tunnels.dev/v1alpha1/namespaces/imaging/tunnels"
BOUND = LONGEST_SILENCE.total_seconds()


@pytest.mark.parametrize(
    ("path", "watch"),
    [
        (PODS, Watch("pods", "")),
        ("/api/v1/namespaces/imaging/pods", Watch("pods", "imaging")),
        ("/api/v1/namespaces", Watch("namespaces", "")),
        ("/api/v1/namespaces/namespaces/pods", Watch("pods", "namespaces")),
        (TUNNELS, Watch("tunnels", "imaging")),
        ("/apis/tunnels.dev/v1alpha1/tunnelclasses", Watch("tunnelclasses", "")),
        # As behind a gateway that has many clusters.
        ("/k8s/clusters/c-1/api/v1/pods", Watch("pods", "")),
        ("/k8s/clusters/c-1/api/v1/namespaces/imaging/pods", Watch("pods", "imaging")),
    ],
)
def test_a_path_says_what_is_watched(path, watch):
    assert watch_of(path) == watch


def told(*events, now):
    """Return the watches after what happened when, as they are at a moment."""
    time = [0.0]
    watches = Watches(lambda: time[0])
    for at, what, path in events:
        time[0] = at
        getattr(watches, what)(path)
    time[0] = now
    return watches


OPENED = ((0, "asked", PODS), (1, "heard", PODS), (0, "asked", TUNNELS), (1, "heard", TUNNELS))
EACH_MINUTE = tuple((60 * n, "heard", path) for n in range(1, 60) for path in (PODS, TUNNELS))


@pytest.mark.parametrize(
    ("events", "now", "sentence"),
    [
        pytest.param((), 9000, None, id="nothing is watched yet"),
        pytest.param(((0, "heard", PODS),), 9000, None, id="listed, and not watched yet"),
        pytest.param(OPENED, 1 + BOUND, None, id="silent for as long as may be"),
        pytest.param((*OPENED, *EACH_MINUTE), 3700, None, id="bookmarks only"),
        pytest.param(
            (*OPENED, (200, "heard", TUNNELS)),
            2 + BOUND,
            "nothing has come from the watch of pods for 301 s",
            id="one is silent, and one is not",
        ),
        pytest.param(
            (*OPENED, (5, "heard", TUNNELS)),
            406,
            "nothing has come from the watch of pods, tunnels in imaging for 405 s",
            id="all are silent",
        ),
        pytest.param(
            ((0, "asked", PODS), *((70 * n, "asked", PODS) for n in range(1, 6))),
            360,
            "nothing has come from the watch of pods for 360 s",
            id="tried again and again without an answer",
        ),
        pytest.param(
            (*OPENED[:2], (290, "asked", PODS), (290, "heard", PODS)),
            400,
            None,
            id="opened again in time",
        ),
        pytest.param(
            (*OPENED[:2], (500, "heard", PODS)), 510, None, id="heard again after too long"
        ),
    ],
)
def test_what_is_silent_for_too_long_is_named(events, now, sentence):
    assert told(*events, now=now).stale() == sentence


def test_the_silence_of_each_watch_is_known():
    watches = told(*OPENED, (61, "heard", PODS), now=71)
    assert watches.silences() == {Watch("pods", ""): 10, Watch("tunnels", "imaging"): 70}


async def test_tells_when_all_that_will_be_watched_is_and_misses_what_is_not():
    time = [0.0]
    watches = Watches(lambda: time[0])
    waiting = asyncio.ensure_future(watches.until_begun({watch_of(PODS), watch_of(TUNNELS)}))
    for path in (PODS, "/api/v1/secrets"):
        watches.asked(path)
        await asyncio.sleep(0)
        assert not waiting.done()
    time[0] = 1 + BOUND
    for path in (PODS, "/api/v1/secrets"):
        watches.heard(path)
    assert "watch of tunnels in imaging" in watches.stale()
    watches.asked(TUNNELS)
    watches.heard(TUNNELS)
    await asyncio.wait_for(waiting, 5)
    assert watches.stale() is None
    await asyncio.wait_for(watches.until_begun({watch_of(PODS)}), 5)
