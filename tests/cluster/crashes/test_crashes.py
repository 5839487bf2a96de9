"""Killed with -9 after any single action, the operator ends where it would have without that."""

from itertools import count

import pytest

from support.actions import Moment
from support.crashes import SCENES, Rehearsal

OPENING, CLOSING = SCENES[0], SCENES[-1]


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("scene", "fatal", "moment"),
    [
        (OPENING, "PUT hybridConnections", Moment.UNHEARD),
        (OPENING, "CreateConnection", Moment.HEARD),
        (CLOSING, "DELETE hybridConnections", Moment.UNHEARD),
    ],
)
async def test_after_one_action(theatre, scene, fatal, moment):
    rehearsal = Rehearsal(theatre, scene)
    actions, picture = await rehearsal.undisturbed()
    number = actions.index(fatal) + 1
    assert await rehearsal.with_death_after(number, moment, picture) is not None


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_after_each_action(theatre, scene, moment, capsys):
    rehearsal = Rehearsal(theatre, scene)
    _, picture = await rehearsal.undisturbed()
    fatal = []
    for number in count(1):
        action = await rehearsal.with_death_after(number, moment, picture)
        if action is None:
            break
        fatal.append(action)
    with capsys.disabled():
        print(f"\n{scene.name}, the answer {moment}: survived {len(fatal)} deaths, after")  # noqa: T201
        print("  " + ", ".join(fatal))  # noqa: T201
    assert fatal
