"""Every metric that a dashboard panel or an alert rule names is one that /metrics has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from baremetal.api.app import create_app
from baremetal.api.webhooks import Webhooks
from baremetal.bmc.careful import Attempt

DOCS = Path(__file__).parents[3] / "docs/monitoring"
_METRIC = re.compile(r"\bbaremetal_[a-z_]+\b")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of both files."""
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    panels = json.loads((DOCS / "grafana-dashboard.json").read_text())["panels"]
    found = [(rule["alert"], rule["expr"]) for rule in rules]
    return found + [(panel["title"], target["expr"]) for panel in panels for target in panel["targets"]]


@pytest.fixture
async def known(bench: Any) -> dict[str, set[str]]:
    """Metric -> the names of its labels, after a little life."""
    hooks = Webhooks(bench.con)
    hooks.counts[(("webhook", "w"), ("outcome", "taken"))] = 1
    bench.con.world.drivers.on_attempt = None
    app = create_app(bench.con, hooks)
    bench.con.world.drivers.on_attempt(Attempt("power", 0.02, "ok"))
    bench.rack.add("bad", password="other")
    await bench.enroll_body(bench.rack.body("bad"))
    await bench.to("n1", "available")
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
        text = (await client.get("/metrics")).text
    families: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            families.setdefault(_SUFFIX.sub("", sample.name), set()).update(sample.labels)
    return families


async def test_every_metric_and_label_named_exists(known: dict[str, set[str]]) -> None:
    for where, expr in expressions():
        for metric in _METRIC.findall(expr):
            assert _SUFFIX.sub("", metric) in known, f"{where}: there is no {metric}"
        for labels in re.findall(r"by \(([^)]*)\)", expr):
            metric = _SUFFIX.sub("", _METRIC.findall(expr)[0])
            wanted = {label.strip() for label in labels.split(",")}
            assert wanted <= known[metric] | {"le"}, f"{where}: {metric} has not labels {wanted - known[metric]}"


def test_rules_say_what_to_do() -> None:
    rules = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    assert all({"summary", "fix"} <= set(rule["annotations"]) and rule["labels"]["severity"] for rule in rules)


def test_brackets_balance() -> None:
    for where, expr in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert expr.count(opening) == expr.count(closing), where
