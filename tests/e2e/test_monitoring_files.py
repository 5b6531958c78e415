"""The alert rules and the dashboard: each metric and label in them exists, and every kind of trouble has its alert."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dustrun import metrics
from dustrun.storage.data import attention
from served import ROOT
from testkit.composition import composed

ALERTS, DASHBOARD = ROOT / "deploy" / "alerts.yaml", ROOT / "deploy" / "dashboard.json"
_NAME = re.compile(r"\b(?:dustrun|process)_\w+")
_SELECTED = re.compile(r"\b(dustrun_\w+)\{([^}]*)\}")
_LABEL = re.compile(r'(\w+)(=~|=)"([^"]*)"')
_OF_PROMETHEUS = {"job", "instance", "le"}


def _alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def _asked() -> list[str]:
    """Every expression of the two files."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [
        *(rule["expr"] for rule in _alerts()),
        *(target["expr"] for panel in panels for target in panel["targets"]),
    ]


def _unknown(expressions: list[str], known: set[str]) -> set[str]:
    return {name for expression in expressions for name in _NAME.findall(expression)} - known


def _series(text: str) -> set[str]:
    """The names that a server's metrics have in queries, also of those without a value yet."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {
        f"{family.name}{ending}"
        for family in text_string_to_metric_families(text)
        for ending in endings.get(family.type, ("",))
    }


async def test_every_metric_exists_and_one_that_is_renamed_is_noticed(tmp_path: Path) -> None:
    async with composed(tmp_path) as server:
        known = _series((await server.owner.http.get("/metrics")).text)
    assert _unknown(_asked(), known) == set()
    assert _unknown(_asked(), known - {"dustrun_disk_free_bytes"}) == {"dustrun_disk_free_bytes"}


def test_every_label_exists_and_every_kind_has_an_alert() -> None:
    labels = {one.name: set(one.labels) for one in metrics.counters}
    labels |= {one.name: set(one.labels) for one in metrics.gauges}
    labels |= {one.name: set(one.labels) for one in metrics.histograms}
    alerted = set[str]()
    for expression in _asked():
        for name, selectors in _SELECTED.findall(expression):
            for label, how, value in _LABEL.findall(selectors):
                plain = re.sub(r"_(total|bucket|count|sum)$", "", name)
                assert label in _OF_PROMETHEUS or label in labels.get(name, labels.get(plain, set())), expression
                if label == "kind" and name == "dustrun_needs_attention":
                    meant = {
                        kind
                        for kind in attention.KINDS
                        if (re.fullmatch(value, kind) if how == "=~" else kind == value)
                    }
                    assert meant, expression
                    alerted |= meant
    assert alerted == set(attention.KINDS)


@pytest.mark.parametrize("rule", _alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"Dustrun[A-Z]\w+", rule["alert"])
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1s"))
    assert set(rule) - {"for"} == {"alert", "expr", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert {name for name, text in rule["annotations"].items() if text} == {"summary", "description"}


def test_the_panels_of_the_dashboard_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)
