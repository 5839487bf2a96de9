from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.tunnels import NOON, a_tunnel, tunnel_body
from tunnel_operator.api.tunnel import FINALIZER, Tunnel
from tunnel_operator.core.quota import Claim, Place, has_place, place_of

CLAIMS = st.lists(st.sampled_from(Claim), max_size=8)


def places(claims, ages=None):
    ages = ages or range(len(claims))
    return [
        Place(claim, (NOON + timedelta(seconds=age), f"uid-{number}"))
        for number, (claim, age) in enumerate(zip(claims, ages, strict=True))
    ]


@given(claims=CLAIMS, most=st.integers(1, 5), dice=st.randoms())
def test_whoever_looks_in_whatever_order_the_limit_is_kept_and_no_place_stays_empty(
    claims, most, dice
):
    now = places(claims)
    held = sum(place.claim is Claim.HOLDS for place in now)
    wanted = sum(place.claim is Claim.WANTS for place in now)
    order = list(range(len(now)))
    for _ in range(len(now)):
        dice.shuffle(order)
        for number in order:
            others = now[:number] + now[number + 1 :]
            if now[number].claim is Claim.WANTS and has_place(now[number], others, most):
                now[number] = replace(now[number], claim=Claim.HOLDS)
    open_ones = [place for place in now if place.claim is Claim.HOLDS]
    assert len(open_ones) == max(held, min(held + wanted, most))


@given(claims=CLAIMS, most=st.integers(1, 5))
def test_of_those_that_want_in_the_oldest_come_first(claims, most):
    now = places(claims)
    wanting = [place for place in now if place.claim is Claim.WANTS]
    answers = [has_place(place, [p for p in now if p != place], most) for place in wanting]
    assert answers == sorted(answers, reverse=True)


def test_who_is_in_stays_in():
    [own, *others] = places([Claim.HOLDS] * 5)
    assert has_place(own, others, 1)
    assert has_place(replace(own, claim=Claim.WANTS), others, None)


def tunnel(*, finalizer=False, deleted=False, status=None, **spec):
    body = tunnel_body(generation=2, **spec)
    body["metadata"]["finalizers"] = [FINALIZER] if finalizer else []
    if deleted:
        body["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    return Tunnel.from_dict({**body, "status": status or {}})


def accepted(status, reason):
    since = "2026-03-01T12:00:00Z"
    condition = {"type": "Accepted", "status": status, "reason": reason}
    return {"conditions": [condition | {"lastTransitionTime": since}]}


ENDED = {"endedAt": "2026-03-01T12:00:00Z", "reason": "Idle"}
OPENED = {"openedAt": "2026-03-01T12:00:00Z"}


@pytest.mark.parametrize(
    ("seen", "claim"),
    [
        (tunnel(), Claim.WANTS),
        (tunnel(finalizer=True), Claim.HOLDS),
        (tunnel(finalizer=True, deleted=True), Claim.HOLDS),
        (tunnel(status=OPENED | accepted("True", "Accepted")), Claim.HOLDS),
        (tunnel(status=accepted("False", "TooManyTunnels")), Claim.WANTS),
        (tunnel(status=accepted("False", "NotAllowed")), Claim.NONE),
        (tunnel(status=OPENED | accepted("False", "NotAllowed")), Claim.NONE),
        (tunnel(suspend=True), Claim.NONE),
        (tunnel(deleted=True), Claim.NONE),
        (tunnel(status={"session": ENDED | {"generation": 2}}), Claim.NONE),
        (tunnel(status=OPENED | {"session": ENDED | {"generation": 1}}), Claim.WANTS),
    ],
)
def test_what_a_tunnel_claims_is_on_record(seen, claim):
    assert place_of(seen).claim is claim


def test_of_two_tunnels_of_one_second_one_comes_first():
    one, two = (place_of(a_tunnel(uid=uid)) for uid in ("1", "2"))
    assert one.turn < two.turn
