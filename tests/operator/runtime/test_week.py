"""Days in seconds: many tunnels, edits and faults by chance, and invariants that are looked at throughout."""

import secrets
import time
from datetime import timedelta

import pytest

from support.week import Scale, live_through

A_DAY = Scale(20, timedelta(days=1), timedelta(minutes=10), timedelta(minutes=15))
A_WEEK = Scale(200, timedelta(days=7), timedelta(minutes=5), timedelta(minutes=20))


@pytest.mark.parametrize("seed", [1])
def test_a_day_of_twenty_tunnels(seed):
    seen = live_through(A_DAY, seed)
    assert seen["tunnels found open"] > 0


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
        for what, times in sorted(seen.items()):
            print(f"{times:>9}  {what.replace('_', ' ')}")  # noqa: T201
