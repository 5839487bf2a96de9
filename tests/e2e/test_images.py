"""The image that is for others: built here as theirs is, and run once as a strict cluster would run it."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tunnel_dev import images, stage
from tunnel_dev.image_trial import ADDRESS, Trial, try_out

ROOT = Path(__file__).parents[2]
ASK = """
import json, os, pathlib, ssl, urllib.error, urllib.request
told = json.loads(pathlib.Path("/state/endpoints.json").read_text())
context = ssl.create_default_context(cafile=told["caFile"])
arm = told["arm"]
group = f"{arm['baseUrl']}/subscriptions/{arm['subscriptionId']}/resourceGroups/{arm['resourceGroup']}"
namespace = f"{group}/providers/Microsoft.Relay/namespaces/demo?api-version=2024-01-01"
try:
    urllib.request.urlopen(namespace, context=context)
except urllib.error.HTTPError as error:
    status = error.code
try:
    pathlib.Path("/written").touch()
except OSError as error:
    refused = error.errno
print(json.dumps([told["relay"][0]["endpoint"], status, os.getuid(), refused]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="buildah and mounts need root")
def test_the_simulated_azure_runs_from_its_image():
    reference = images.build(replace(stage.AZURE, context=ROOT))

    question = ("/opt/venv/bin/python", "-c", ASK)
    answer = json.loads(try_out(reference, Trial("/state/endpoints.json", question)))

    assert answer == [f"sb://{ADDRESS}:8442/", 401, 65532, errno.EROFS]
