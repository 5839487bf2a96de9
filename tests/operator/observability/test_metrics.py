import aiohttp
from structlog.testing import capture_logs

from support.tunnels import NOON
from tunnel_operator.observability.health import serve_health
from tunnel_operator.observability.metrics import CONTENT_TYPE, Metrics


def test_the_gauges_show_what_is_so_at_the_scrape():
    metrics, depth = Metrics(lambda: NOON), []
    metrics.watch(
        queue_depth=lambda: len(depth),
        active_passes=lambda: 3,
        oldest_pass_seconds=lambda: 1.5,
        tunnels=lambda: 7,
        rollout_waiting=lambda: 2,
        place_waiting=lambda: 5,
    )
    depth.append("a key")
    text = metrics.render().decode()
    assert "tunnel_operator_queue_depth 1.0" in text
    assert "tunnel_operator_active_passes 3.0" in text
    assert "tunnel_operator_oldest_pass_seconds 1.5" in text
    assert "tunnel_operator_tunnels 7.0" in text
    assert "tunnel_operator_rollout_waiting 2.0" in text
    assert "tunnel_operator_place_waiting 5.0" in text


def test_calls_are_counted_by_service_verb_and_code():
    metrics = Metrics(lambda: NOON)
    metrics.observe_call("arm", "observe", "429", 0.2)
    text = metrics.render().decode()
    labels = 'code="429",service="arm",verb="observe"'
    assert f"tunnel_operator_azure_calls_total{{{labels}}} 1.0" in text
    assert 'azure_call_seconds_bucket{le="0.25",service="arm",verb="observe"} 1.0' in text


def test_a_first_crash_is_an_increase():
    text = Metrics(lambda: NOON).render().decode()
    assert 'tunnel_operator_pass_seconds_count{outcome="crashed"} 0.0' in text


def test_a_watch_shows_its_silence_once_it_has_begun():
    metrics, silences = Metrics(lambda: NOON), {}
    metrics.watch_silences(silences.items)
    name = "tunnel_operator_watch_silence_seconds"
    assert f"{name}{{" not in metrics.render().decode()
    silences["pods", ""] = 12.5
    text = metrics.render().decode()
    assert f'{name}{{namespace="",resource="pods"}} 12.5' in text


async def test_what_is_wrong_is_told_by_the_endpoint_and_in_the_log():
    metrics, trouble = Metrics(lambda: NOON), []
    serving = serve_health(
        0,
        live=lambda: next(iter(trouble), None),
        ready=lambda: None,
        metrics=metrics.render,
        content_type=CONTENT_TYPE,
    )
    async with serving as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        with capture_logs() as logs:
            async with http.get("/livez") as answer:
                assert (answer.status, await answer.text()) == (200, "ok\n")
            assert not logs
            trouble.append("nothing is heard")
            async with http.get("/livez") as answer:
                assert (answer.status, await answer.text()) == (503, "nothing is heard\n")
            [line] = logs
            assert (line["event"], line["reason"]) == ("operator.not_alive", "nothing is heard")


async def test_the_endpoint_answers_while_the_event_loop_goes_on():
    metrics = Metrics(lambda: NOON)
    serving = serve_health(
        0,
        live=lambda: None,
        ready=lambda: "not yet",
        metrics=metrics.render,
        content_type=CONTENT_TYPE,
    )
    async with serving as port, aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        async with http.get("/metrics") as answer:
            assert "tunnel_operator_queue_depth" in await answer.text()
            assert answer.headers["Content-Type"] == CONTENT_TYPE
        async with http.get("/readyz") as answer:
            assert (answer.status, await answer.text()) == (503, "not yet\n")
