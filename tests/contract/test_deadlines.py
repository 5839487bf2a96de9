"""What a class may ask of a device fits in a pass, and the alert and the probe know how long that is."""

import re
from pathlib import Path

import yaml

from tunnel_operator.adapters import budget, iothub, relay
from tunnel_operator.runtime.workers import STUCK_AFTER

ROOT = Path(__file__).parents[2]


def alert_seconds():
    rules = (ROOT / "manifests/monitoring/rules.yaml").read_text()
    [seconds] = re.findall(r"oldest_pass_seconds\[15m\]\)\) > (\d+)", rules)
    return int(seconds)


def longest(field):
    [version] = yaml.safe_load((ROOT / "crds/tunnelclasses.yaml").read_text())["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return spec["properties"]["iotHub"]["properties"][field]["maximum"]


def test_the_operator_waits_as_long_as_a_class_may_ask_for():
    assert longest("responseTimeoutSeconds") == iothub.MOST_RESPONSE_SECONDS
    assert longest("connectTimeoutSeconds") == iothub.MOST_CONNECT_SECONDS


def test_the_slowest_device_is_no_stuck_pass():
    turns = 2 * budget.PATIENCE_SECONDS
    device = longest("responseTimeoutSeconds") + longest("connectTimeoutSeconds")
    call = device + 2 * iothub.SLACK_SECONDS
    # Before it the key is read for what the device is told.
    assert turns + relay.DEADLINE_SECONDS + call < alert_seconds() < STUCK_AFTER.total_seconds()
