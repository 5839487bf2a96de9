"""What holds for all tests."""

import logging

import pytest
import structlog

from tunnel_dev import apiserver


def pytest_addoption(parser):
    group = parser.getgroup("edge tunnels")
    group.addoption(
        "--long",
        action="store_true",
        help="let Azure, and the API server, be away for five minutes",
    )
    group.addoption("--seed", type=int, help="what chances the simulated week is made of")


def pytest_collection_finish(session):
    is_needed = any(item.get_closest_marker("apiserver") for item in session.items)
    if is_needed and not session.config.option.collectonly:
        apiserver.build()


@pytest.fixture(autouse=True)
def no_logging_is_left_behind():
    """Undo what a program under test does to the process's logging: its stream ends with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
