"""Days in seconds: many tunnels, edits and faults by chance, and invariants that are looked at throughout."""

import secrets
import time
from datetime import timedelta

import pytest

from support.week import Scale, live_through

A_DAY = Scale(20, timedelta(days=1), timedelta(minutes=10), timedelta(minutes=15))
A_WEEK = Scale(200, timedelta(days=7), timedelta(minutes=5), timedelta(minutes=20))


ENOUGH_OPEN = 50
"""How many tunnels a week has to find open on average, for what is looked at to say something."""


@pytest.mark.parametrize("seed", [1])
def test_a_day_of_twenty_tunnels(seed):
    assert live_through(A_DAY, seed).average_open > 5


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_a_week_of_two_hundred_tunnels(request, capsys):
    seed = request.config.getoption("--seed")
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    with capsys.disabled():
        print(f"\na week of 200 tunnels, seed {seed}", flush=True)  # noqa: T201
        began = time.monotonic()
        seen = live_through(A_WEEK, seed)
        print(f"took {time.monotonic() - began:.0f} s")  # noqa: T201
        for line in seen.lines():
            print(line)  # noqa: T201
    assert seen.average_open >= ENOUGH_OPEN
