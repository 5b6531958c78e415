"""A condition in words, in rows and as an expression, and the values that it compares."""

from __future__ import annotations

from playwright.sync_api import expect

from testkit.e2e.server import Server
from testkit.web.app import App
from testkit.web.steps import choose


def test_a_condition_is_typed_built_and_written_as_one_thing(shared_app: App, server: Server) -> None:
    low = {"type": "if", "payload": {"expression": "true"}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["low"]}, "low": low}})
    run = server.start_run(workflow, payload={"price": 95.5, "currency": "USD"})
    shared_app.until(lambda: server.call("GET", f"/v1/runs/{run}")["finishedAt"])
    page = shared_app.turn_to(f"/workflows/{workflow}")
    step = choose(page, "Low")
    expression = step.get_by_role("textbox", name="Expression")
    step.get_by_label("Say it, or build it below").fill("price < 100 and currency is USD")
    expect(expression).to_contain_text(".price < 100 && ")
    expect(step.get_by_text("the nearest that has one").first).to_be_visible()
    expect(step.get_by_text("Yes, with the last known values.")).to_be_visible()
    row = step.get_by_role("group", name="Row 1")
    row.get_by_role("combobox", name="Operator").select_option("is at least")
    row.get_by_label("Compared with").fill("96")
    expect(expression).to_contain_text(".price >= 96 && ")
    expect(step.get_by_text("No, with the last known values.")).to_be_visible()
    assert shared_app.faults() == []
    expression.fill("size($trigger.body) > 1")
    expect(step.get_by_text("more than rows can show")).to_be_visible()
    shared_app.until(lambda: _expression(server, workflow) == "size($trigger.body) > 1")


def _expression(server: Server, workflow: str) -> object:
    return server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]["low"]["payload"].get("expression")
