from contextlib import suppress

import pytest

from support.clock import Time
from tunnel_operator.runtime.patience import CALLS, LONGEST_SECONDS, USUAL_SECONDS, Patience


def test_grows_with_what_a_write_takes_and_comes_back():
    time = Time()
    patience = Patience(monotonic=time)

    def write(seconds):
        with patience.measured():
            time.now += seconds

    assert patience.seconds() == USUAL_SECONDS
    for _ in range(20):
        write(USUAL_SECONDS / CALLS)
    assert patience.seconds() == USUAL_SECONDS
    for _ in range(20):
        write(0.5)
    assert patience.seconds() == pytest.approx(0.5 * CALLS, rel=0.01)
    with suppress(TimeoutError), patience.measured():
        time.now += 15
        raise TimeoutError
    assert patience.seconds() == LONGEST_SECONDS
    for _ in range(20):
        write(0.01)
    assert patience.seconds() == USUAL_SECONDS
