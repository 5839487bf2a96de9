"""Rules, dashboard, runbook and the operator's metrics belong together."""

import json
import re
import shutil
import subprocess
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml
from azure.core.exceptions import ClientAuthenticationError
from prometheus_client.parser import text_string_to_metric_families

from support.tunnels import NOON, a_tunnel
from tunnel_dev import promtool
from tunnel_operator.adapters.azure_errors import HUB_CODES, classify_arm, classify_hub
from tunnel_operator.adapters.calls import code_of
from tunnel_operator.api.reasons import ConditionType, Reason
from tunnel_operator.api.tunnel import FINALIZER
from tunnel_operator.observability.metrics import Metrics

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests/monitoring"
RUNBOOK = ROOT / "docs/runbook.md"
METRIC = re.compile(r"\b(tunnel_\w+)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
NOT_ON_THE_DASHBOARD = {
    "tunnel_operator_process_start_time_seconds": "TunnelOperatorRestarting tells of it",
    "tunnel_operator_process_virtual_memory_bytes": "what is reserved says nothing of what is used",
}


def rules():
    spec = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
    return [rule for group in spec["groups"] for rule in group["rules"]]


def dashboard_expressions():
    board = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "5m")
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


EXPRESSIONS = [rule["expr"] for rule in rules()] + list(dashboard_expressions())


@pytest.fixture(scope="module")
def metrics():
    """Return the metrics of an operator with one Tunnel, each of them with a sample."""
    metrics = Metrics(lambda: NOON)
    metrics.observe_call("arm", "observe", "ok", 0.1)
    metrics.watch_budgets({"arm": lambda: 0})
    metrics.watch_breakers(dict)
    metrics.watch_silences(lambda: [(("tunnels", ""), 1.0)])
    condition = {"type": "Ready", "status": "True", "reason": "Open"}
    times = {"openedAt": "2026-03-01T12:00:00Z", "expiresAt": "2026-03-01T13:00:00Z"}
    conditions = [condition | {"lastTransitionTime": "2026-03-01T12:00:00Z"}]
    before = a_tunnel(finalizer=True)
    assert before.metadata.finalizers == (FINALIZER,)
    after = a_tunnel(status=times | {"conditions": conditions})
    metrics.tunnel.report(before, after.status, {})
    return metrics


@pytest.fixture(scope="module")
def exported(metrics):
    """Return the labels of each metric."""
    text = metrics.render().decode()
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_asked_for_is_exported(expression, exported):
    found = METRIC.findall(expression)
    assert found
    for name, matchers in found:
        assert name in exported
        assert {label for label, _ in MATCHER.findall(matchers)} <= exported[name]


def test_every_metric_is_on_the_dashboard_or_there_is_a_reason(metrics):
    asked = {name for expr in dashboard_expressions() for name, _ in METRIC.findall(expr)}
    families = list(metrics.registry.collect())
    assert all(family.samples for family in families)
    unseen = {f.name for f in families if asked.isdisjoint(s.name for s in f.samples)}
    assert unseen == set(NOT_ON_THE_DASHBOARD)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_reason_and_condition_asked_for_exists(expression):
    for _, matchers in METRIC.findall(expression):
        for label, value in MATCHER.findall(matchers):
            if label == "reason":
                assert set(value.split("|")) <= set(Reason)
            if label == "type":
                assert value in set(ConditionType)


def codes_of(alert):
    [rule] = [rule for rule in rules() if rule["alert"] == alert]
    [codes] = [value for label, value in MATCHER.findall(rule["expr"]) if label == "code"]
    return set(codes.split("|"))


def test_every_code_that_means_not_authorised_is_in_the_alert_for_it():
    meanings = [(code, classify_hub(code, "d", waited_seconds=1)) for code in HUB_CODES]
    for status in HTTPStatus:
        meanings.append((status.value, classify_arm(status, "")))
        meanings.append((status.value, classify_hub(status, "d", waited_seconds=1)))
    found = {str(code) for code, error in meanings if error.reason is Reason.UNAUTHORIZED}
    assert {"401002", "401003"} <= found
    known = codes_of("TunnelAzureUnauthorized")
    assert found - codes_of("TunnelAzureThrottled") == known - {"no-token"}
    assert code_of(ClientAuthenticationError("no")) in known


def test_the_runbook_reads_the_whole_log_of_every_replica():
    """One of several waits and says little; and kubectl shows ten lines of Pods that a label chooses."""
    commands = re.findall(r"`(kubectl logs -n tunnels-system[^`]*)`", RUNBOOK.read_text())
    assert len(commands) > 3
    for command in commands:
        assert "-l app.kubernetes.io/name=tunnel-operator --prefix --tail=" in command


def test_every_alert_has_a_runbook_entry_and_every_entry_an_alert():
    text = RUNBOOK.read_text()
    entries = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert {entry.split()[0] for entry in entries} == {rule["alert"] for rule in rules()}
    for entry in entries:
        for part in ("**It means**", "**Look**", "**Do**"):
            assert part in entry, entry.split()[0]
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_the_runbook_names_only_reasons_that_exist():
    cells = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", RUNBOOK.read_text(), flags=re.MULTILINE)
    named = {reason for cell in cells for reason in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 10
    assert named <= set(Reason)


def test_every_link_inside_the_runbook_leads_somewhere():
    text = RUNBOOK.read_text()
    headings = {line[3:].lower() for line in text.splitlines() if line.startswith("## ")}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= headings


def test_the_scrape_finds_the_operator():
    monitor = yaml.safe_load((MONITORING / "podmonitor.yaml").read_text())["spec"]
    deployment = yaml.safe_load((ROOT / "manifests/base/deployment.yaml").read_text())
    pod = deployment["spec"]["template"]
    labels = monitor["selector"]["matchLabels"]
    assert labels.items() <= pod["metadata"]["labels"].items()
    [endpoint] = monitor["podMetricsEndpoints"]
    [container] = pod["spec"]["containers"]
    assert endpoint["port"] in {port["name"] for port in container["ports"]}


@pytest.fixture
def promtool_program():
    program = promtool.find()
    if program is None:
        pytest.skip("there is no promtool; `make promtool` gets Debian's")
    return program


def test_the_rules_do_what_they_say(promtool_program, tmp_path):
    spec = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(spec))
    shutil.copy(Path(__file__).with_name("rules_test.yaml"), tmp_path)
    for command in (("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")):
        done = subprocess.run(
            [promtool_program, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested():
    tests = yaml.safe_load(Path(__file__).with_name("rules_test.yaml").read_text())["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in rules()}


def test_the_dashboards_expressions_are_ones(promtool_program, tmp_path):
    """Grafana's own variables are filled in; a recording rule then has to parse."""
    names = [f"x:{number}" for number, _ in enumerate(EXPRESSIONS)]
    expressions = [e for e in EXPRESSIONS if not e.startswith("label_values")]
    records = [{"record": n, "expr": e} for n, e in zip(names, expressions, strict=False)]
    file = tmp_path / "dashboard.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    done = subprocess.run(
        [promtool_program, "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_metrics_are_as_prometheus_wants_them(promtool_program, metrics):
    done = subprocess.run(
        [promtool_program, "check", "metrics"],
        input=metrics.render(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
