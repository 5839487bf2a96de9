"""What holds for all tests."""

import logging

import pytest
import structlog


@pytest.fixture(autouse=True)
def no_logging_is_left_behind():
    """Undo what a program under test does to the process's logging: its stream ends with the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
