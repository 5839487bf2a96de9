import io
import json
import logging

import pytest
import structlog

from tunnel_operator.observability.logs import configure_logging

TOKEN = "SharedAccessSignature sr=http%3a%2f%2fx&sig=abc%3d&se=1&skn=r"


@pytest.fixture
def stream():
    stream = io.StringIO()
    configure_logging("INFO", stream)
    return stream


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_ours_and_the_libraries_lines_have_one_shape(stream):
    structlog.get_logger("ours").info("tunnel.ready", tunnel="a/b")
    logging.getLogger("theirs").warning("hello %s", "you")
    ours, theirs = lines(stream)
    assert (ours["event"], ours["tunnel"], ours["level"]) == ("tunnel.ready", "a/b", "info")
    assert (theirs["event"], theirs["level"]) == ("hello you", "warning")
    assert {"timestamp", "logger"} <= ours.keys() & theirs.keys()


def test_what_looks_like_a_token_is_hidden_wherever_it_is(stream):
    log = structlog.get_logger("ours")
    log.info("x", header=TOKEN, nested={"list": [f"Bearer {TOKEN}"]})
    log.info("x", text="Endpoint=sb://x/;SharedAccessKeyName=r;SharedAccessKey=abc=")
    assert "abc" not in stream.getvalue()


def test_a_traceback_shows_no_local_variables(stream):
    def fail(secret):
        return int("no number") + len(secret)

    try:
        fail("hunter2")
    except ValueError:
        structlog.get_logger("ours").exception("crashed")
    [line] = lines(stream)
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert "hunter2" not in stream.getvalue()
