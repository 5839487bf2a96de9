"""The operator's rights are those that it uses: nothing is missing, and nothing is there for nothing.

Runs after all other tests of this folder, and looks at what they made the operator ask for.
"""

from pathlib import Path

import pytest
import yaml

from support.audit import Right, asked_for, granted

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
USER = "system:serviceaccount:tunnels-system:tunnel-operator"

NOT_SEEN_HERE = {
    # Asked by the admission plugin OwnerReferencesPermissionEnforcement, which is off here and on in OpenShift.
    Right("tunnels.dev", "tunnels/finalizers", "update"),
}


def base():
    documents = yaml.safe_load_all((ROOT / "manifests/base/rbac.yaml").read_text())
    return [d for d in documents if d["metadata"]["name"] == "tunnel-operator" and "rules" in d]


@pytest.fixture(scope="module")
def seen(server):
    return list(asked_for(server.audit, USER))


def test_the_operator_asks_for_nothing_that_it_may_not_do(seen):
    assert seen
    assert not [(right, denial) for right, denial in seen if denial]


def test_the_operator_may_do_nothing_that_it_never_does(request, seen):
    files = {item.path for item in request.session.items}
    if not files >= set(HERE.glob("test_*.py")):
        pytest.skip("needs all tests of this folder in the same run")
    allowed = granted(rule for role in base() for rule in role["rules"])
    assert allowed - {right for right, _ in seen} == NOT_SEEN_HERE


def test_no_rule_is_a_wildcard():
    for right in granted(rule for role in base() for rule in role["rules"]):
        assert "*" not in right
