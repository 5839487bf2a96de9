"""What was freed goes back to the system, once for all streams that end together."""

import asyncio

from support.waiting import until
from tunnel_forwarder.allocator import Tidier, trim

PIECE = 60_000  # small enough for glibc's heap, too large for Python's own


def resident_kib():
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4


async def test_streams_that_end_together_are_one_piece_of_work():
    done = []
    tidier = Tidier(lambda: done.append(asyncio.get_running_loop().time()), seconds=0.01)
    for _ in range(5):
        tidier.soon()
    await until(lambda: done)
    tidier.soon()
    await until(lambda: len(done) == 2)


def test_free_memory_between_what_is_in_use_goes_back():
    pieces = [bytearray(PIECE) for _ in range(1000)]
    kept = pieces[::20]
    del pieces
    before = resident_kib()
    trim()
    assert resident_kib() < before - 40_000
    assert len(kept) == 50
