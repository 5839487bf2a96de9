"""What no document settles is named in the code and listed in the README, one for one."""

import re
from pathlib import Path

import tunnel_azure_sim

PACKAGE = Path(tunnel_azure_sim.__file__).parent
README = PACKAGE.parent / "README.md"
NAME = re.compile(r"ASSUMED_[A-Z_]+")


def test_every_assumption_is_listed():
    code = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in NAME.findall(file.read_text())
        if name != "ASSUMED_"
    }
    assert code == set(NAME.findall(README.read_text()))
