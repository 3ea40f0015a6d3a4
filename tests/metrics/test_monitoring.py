"""What is drawn, alerted and documented is what is exposed, and each alert fires when it should and not otherwise."""

import json
import re
import shutil
import subprocess
from collections import defaultdict

import pytest
import yaml  # type: ignore[import-untyped]

from jobsync.api.metrics.catalogue import FLEET, PROCESS, reference
from tests.docs.pages import ROOT, marked

MONITORING = ROOT / "deploy" / "monitoring"
RULES = MONITORING / "jobsync.rules.yml"
CASES = MONITORING / "jobsync.rules.test.yml"
LABELS = {metric.name: set(metric.labels) for metric in (*PROCESS, *FLEET)}
SERIES = re.compile(r"\bjobsync_\w+")
COUNTED = re.compile(r"\b(?:increase|rate)\((jobsync_\w+)")


def real(series: str) -> str:
    """Give the metric that a series belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", series)


def rules() -> list[dict[str, str]]:
    """Give the alerts."""
    return list(yaml.safe_load(RULES.read_text())["groups"][0]["rules"])


def drawn() -> list[tuple[str, dict[str, str]]]:
    """Give the queries of the dashboard, each with its panel's title."""
    panels = json.loads((MONITORING / "grafana-jobsync.json").read_text())["panels"]
    return [(panel["title"], target) for panel in panels for target in panel["targets"]]


def test_the_reference_is_what_the_code_says() -> None:
    assert "\n".join(marked("reference/metrics.md", "metrics")) == reference()


def test_the_alerts_are_about_metrics_that_exist() -> None:
    for rule in rules():
        found = SERIES.findall(rule["expr"])
        assert found
        assert {real(series) for series in found} <= set(LABELS), rule["alert"]
    told = {rule["alert"]: rule["expr"] for rule in rules()}
    # The thresholds of the operator's guide, which docs/operate/monitoring.md repeats.
    assert told["JobsyncHeartbeatLag"].endswith("> 10")
    assert told["JobsyncRebalances"].endswith("> 5")
    assert told["JobsyncLeaderChanged"].endswith("< 300")
    assert "> 0.5" in told["JobsyncTokenBalance"]
    assert "< 0.1" in told["JobsyncTokenBalance"]


def test_only_what_never_falls_is_asked_for_its_increase() -> None:
    """A gauge that fell counts as a counter that began anew: it would alert when something is put right."""
    kinds = {metric.name: metric.kind for metric in (*PROCESS, *FLEET)}
    asked = [*((rule["alert"], rule["expr"]) for rule in rules()), *((title, each["expr"]) for title, each in drawn())]
    for who, expression in asked:
        for series in COUNTED.findall(expression):
            assert kinds[real(series)] in {"counter", "histogram"}, who


def test_the_dashboard_draws_metrics_that_exist_and_labels_that_they_have() -> None:
    seen = set()
    for title, target in drawn():
        found = {real(series) for series in SERIES.findall(target["expr"])}
        assert found <= set(LABELS), title
        assert target["expr"].count('{fleet="$fleet"}') == len(found), title
        legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert legend <= set().union(*(LABELS[name] for name in found)), title
        seen |= found
    five = {
        "active_nodes",
        "token_balance",
        "heartbeat_lag_seconds",
        "rebalances_an_hour",
        "seconds_since_leader_change",
    }
    assert {f"jobsync_{name}" for name in five} <= seen


def test_each_alert_is_shown_firing_and_quiet_with_labels_that_its_metrics_have() -> None:
    shown = defaultdict[str, set[bool]](set)
    for group in yaml.safe_load(CASES.read_text())["tests"]:
        for case in group["alert_rule_test"]:
            shown[case["alertname"]].add(bool(case["exp_alerts"]))
        for series in group["input_series"]:
            name, labels = re.fullmatch(r"(\w+)\{(.*)\}", series["series"]).groups()  # type: ignore[union-attr]
            given = set(re.findall(r"(\w+)=", labels)) - {"job", "instance"}
            assert given == LABELS[name], series["series"]
    assert dict(shown) == {rule["alert"]: {True, False} for rule in rules()}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: it comes with Debian's prometheus")
@pytest.mark.parametrize(("verb", "path"), [("check", RULES), ("test", CASES)])
def test_promtool_accepts_the_rules_and_sees_each_fire_and_keep_quiet(verb: str, path: object) -> None:
    promtool = str(shutil.which("promtool"))
    said = subprocess.run([promtool, verb, "rules", str(path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr
