"""A condition in words, in rows and as an expression, and the values that it compares."""

from __future__ import annotations

import pytest
from playwright.sync_api import Locator, expect

from testkit.e2e.server import Server
from testkit.web.app import App
from testkit.web.steps import choose

pytestmark = pytest.mark.long


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
    _write(expression, "size($trigger.body) > 1")
    expect(step.get_by_text("more than rows can show")).to_be_visible()
    shared_app.until(lambda: _expression(server, workflow) == "size($trigger.body) > 1")


def test_a_tested_result_is_pointed_at_and_tested_with(shared_app: App, server: Server) -> None:
    say = {"type": "format", "payload": {"template": "hi"}, "children": ["tell"]}
    tell = {"type": "format", "payload": {"template": "{{$nodes.say.result.text}}, {{$trigger.body.who}}"}}
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": say, "tell": tell}
    workflow = server.create_workflow({"nodes": nodes})
    page = shared_app.turn_to(f"/workflows/{workflow}")
    step = choose(page, "Tell")
    template = step.get_by_role("textbox", name="Template")
    template.click()
    values = step.get_by_role("region", name="From the steps before")
    values.get_by_role("button", name="Test “Say”").click()
    said = page.get_by_role("complementary", name="Step Say", exact=True)
    said.get_by_role("button", name="Test this step").click()
    expect(said.get_by_role("region", name="Result of the test").first).to_contain_text("hi")
    step = choose(page, "Tell")
    _write(template, "say ")
    values.get_by_role("group", name="Say").get_by_role("button").first.click()
    expect(template).to_have_text("say {{$nodes.say.result.text}}")
    expect(step.get_by_text("say hi")).to_be_visible()
    assert shared_app.faults() == []
    page.keyboard.type(", {{$trigger.body.who")
    step.get_by_role("tab", name="Test").click()
    step.get_by_label("Value of $trigger.body.who").fill("Ana")
    step.get_by_role("button", name="Test this step").click()
    expect(step.get_by_role("region", name="Result of the test").first).to_contain_text("say hi, Ana")


def _write(field: Locator, text: str) -> None:
    """In the place of what is in it, as a person does."""
    field.click()
    field.press("Control+a")
    field.press("Delete")
    field.page.keyboard.type(text)


def _expression(server: Server, workflow: str) -> object:
    return server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]["low"]["payload"].get("expression")
