"""What all cases of this folder come to; it runs last, by its name."""

import gc
from pathlib import Path

import pytest

from support.fuzz import FIGURES, resident_bytes

LEAST_CASES = 10_000
MAX_GROWTH = 96 << 20
"""Bytes of memory that all cases together may leave behind; the journal and the test runner keep some."""


def test_nothing_was_complained_of(simulation, errors):
    assert simulation.complaints == []
    assert errors.seen == []


def test_little_is_kept():
    gc.collect()
    assert resident_bytes() - FIGURES.rss_before < MAX_GROWTH


def test_enough_was_tried():
    files = {file.name for file in Path(__file__).parent.glob("test_*.py")} - {Path(__file__).name}
    if not files <= FIGURES.files:
        pytest.skip("needs all tests of this folder in the same run")
    assert FIGURES.cases >= LEAST_CASES
