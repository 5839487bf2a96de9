"""Two replicas: one leads, and when it is gone, or only seems to be, the other does, and nothing is done twice."""

import time

from support.kubectl import eventually

TAKEOVER = 15
"""Seconds within which a lost leader is replaced."""


def leads(program):
    return "leader.elected" in program.output


async def test_a_killed_leader_is_replaced_and_tunnels_do_not_notice(
    stage, second_operator, capsys
):
    await stage.device.start()
    await stage.operator.start()
    await eventually(lambda: leads(stage.operator))
    await second_operator.start()
    stage.apply()
    await stage.until_ready_is("True", "Open")
    version = stage.tunnel()["metadata"]["resourceVersion"]
    assert not leads(second_operator)
    began = time.monotonic()
    await stage.operator.kill()
    await eventually(lambda: leads(second_operator), within=TAKEOVER)
    with capsys.disabled():
        print(f"\na killed leader was replaced within {time.monotonic() - began:.1f} s")  # noqa: T201
    stage.kubectl("annotate", "tunnel", "mri-7", "look=again", "-n", stage.namespace)
    assert stage.tunnel()["status"]["conditions"]
    assert [call.method for call in stage.azure.method_calls] == ["CreateConnection"]
    assert int(version) < int(stage.tunnel()["metadata"]["resourceVersion"])
    stage.kubectl("delete", "tunnel", "mri-7", "-n", stage.namespace, "--wait=false")
    await stage.until_gone()


async def test_a_leader_that_stops_in_order_hands_over_at_once(stage, second_operator):
    await stage.operator.start()
    await eventually(lambda: leads(stage.operator))
    await second_operator.start()
    await eventually(lambda: "operator.starting" in second_operator.output)
    assert await stage.operator.stop() == 0
    await eventually(lambda: leads(second_operator), within=5)


async def test_a_leader_that_was_frozen_does_no_harm_when_it_wakes(stage, second_operator):
    await stage.device.start()
    await stage.operator.start()
    await eventually(lambda: leads(stage.operator))
    await second_operator.start()
    stage.operator.freeze()
    stage.apply()
    await eventually(lambda: leads(second_operator), within=TAKEOVER)
    await stage.until_ready_is("True", "Open")
    puts = [call for call in stage.azure.arm_calls if call.method == "PUT"]
    stage.operator.thaw()
    assert await stage.operator.wait() == 1
    assert "LeaseLostError" in stage.operator.output
    assert "action.done" not in stage.operator.output
    assert [call for call in stage.azure.arm_calls if call.method == "PUT"] == puts
    assert [call.method for call in stage.azure.method_calls] == ["CreateConnection"]
