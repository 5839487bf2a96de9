"""What the tree must not have, since Python itself would suffer."""

import operator
from operator import itemgetter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_pythons_own_operator_is_not_hidden():
    assert Path(operator.__file__).name == "operator.py"
    assert itemgetter(0)("a") == "a"


def test_source_roots_are_not_packages():
    for root in ("operator", "forwarder-image", "device_sim", "azure_sim", "dev", "tests"):
        assert not (ROOT / root / "__init__.py").exists()


def test_node_lock_names_no_registry():
    text = (ROOT / "tests/contract/node/package-lock.json").read_text()
    assert '"integrity"' in text
    assert "://" not in text
    assert "resolved" not in text
