"""From a template, from a paste, step by step: what helps to build a workflow, and the comparison of its versions."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from testkit.e2e.server import Server
from testkit.web.app import App, Open
from testkit.web.steps import choose, choose_too

ROOT_ONLY = {"root": {"type": "manual", "payload": {}, "children": []}}
CURL = r"""curl -X POST 'https://api.example.com/orders?all=1' \
  -H 'Authorization: Bearer s3cret' -H 'X-Kind: t' --data '{"price": 1.10, "text": "it'\''s <b>"}'"""
CURL_OF_SECRETS = """curl 'https://me:s3cret-1@api.example.com/?apikey=s3cret-2&all=1' \\
  -H 'X-Kind: Basic s3cret-3-long' -F password=s3cret-4 -F 'text={"password": "s3cret-5"}' -F a=1"""
OWN = "0x52908400098527886E0F7030069857D2E4169EE7"
YAML = """
definition:
  nodes:
    say: {type: format, payload: {template: x, values: [1.10]}, children: [more]}
    more: {type: log}
"""
ABI = json.dumps(
    [
        {
            "type": "function",
            "name": "balanceOf",
            "stateMutability": "view",
            "inputs": [{"name": "who", "type": "address"}],
            "outputs": [{"type": "uint256"}],
        }
    ]
)
_PASTE = """(text) => {
  const data = new DataTransfer()
  data.setData('text', text)
  window.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data }))
}"""

_PASTE_INTO = """(field, text) => {
  const data = new DataTransfer()
  data.setData('text', text)
  field.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }))
}"""


@pytest.fixture
def workflow(server: Server) -> str:
    """A workflow of one trigger."""
    return server.create_workflow({"nodes": ROOT_ONLY})


@pytest.fixture
def app(shared_app: App) -> App:
    """The window of this file."""
    return shared_app


def _nodes(server: Server, workflow: str) -> dict[str, Any]:
    found: dict[str, Any] = server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"]
    return found


def _open(app: App, workflow: str) -> Page:
    page = app.turn_to(f"/workflows/{workflow}")
    page.locator(".card").first.wait_for()
    return page


@pytest.mark.long
def test_a_template_becomes_a_workflow(app: App, server: Server) -> None:
    page = app.open("/")
    start = page.get_by_role("region", name="Start from a template")
    expect(start.get_by_role("listitem")).to_have_count(3)
    start.get_by_role("link", name=re.compile("All .* templates")).click()
    page.get_by_label("Search templates").fill("week guard")
    cards = page.get_by_role("list", name="Templates").get_by_role("listitem")
    expect(cards).to_have_count(1)
    assert app.faults() == []
    cards.get_by_role("button").click()
    page.wait_for_url(re.compile("/workflows/wf_"))
    expect(page.locator(".card").filter(has_text="Guard")).to_have_count(1)
    page.go_back()
    expect(cards).to_have_count(1)


@pytest.mark.long
def test_a_template_asks_for_its_blanks(app: App, server: Server) -> None:
    """Who is paid is nobody's example, and a connector can be chosen later."""
    page = app.open("/templates")
    page.get_by_label("Search templates").fill("sweep")
    page.get_by_role("button", name="Use it: Sweep to a safe address").click()
    form = page.get_by_role("dialog", name="Sweep to a safe address")
    recipient, make = form.get_by_label("Send: Recipient"), form.get_by_role("button", name="Create the workflow")
    make.click()
    assert recipient.evaluate("field => field.validity.valueMissing")
    recipient.fill("0x12")
    make.click()
    assert recipient.evaluate("field => field.validity.patternMismatch")
    recipient.fill("0x52908400098527886e0F7030069857D2E4169EE7")
    make.click()
    expect(form.get_by_role("alert")).to_contain_text("checksum")
    assert app.faults() == []
    recipient.fill(OWN)
    make.click()
    page.wait_for_url(re.compile("/workflows/wf_"))
    definition = server.call("GET", f"/v1/workflows/{page.url.split('/')[-1].split('?')[0]}")["definition"]
    assert definition["nodes"]["send"]["payload"]["recipient"] == OWN
    assert server.call("POST", "/v1/workflows/validate", {"definition": definition})["valid"]
    page.go_back()
    page.get_by_label("Search templates").fill("invoices mailbox")
    page.get_by_role("button", name="Use it: Invoices by e-mail").click()
    form = page.get_by_role("dialog", name="Invoices by e-mail")
    expect(form.get_by_role("combobox", name=re.compile("connector"))).to_have_text(re.compile("Choose later"))
    form.get_by_label("Accepted: URL").fill("https://hooks.mine.dev/x")
    form.get_by_role("button", name="Create the workflow").click()
    page.wait_for_url(re.compile("/workflows/wf_"))


@pytest.mark.long
def test_a_form_is_built_by_clicking(app: App, server: Server) -> None:
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual"}}})
    page = _open(app, workflow)
    page.locator(".card").first.click()
    asked = page.get_by_role("region", name="What it asks for")
    asked.get_by_role("button", name="Add a field").click()
    amount = asked.get_by_role("group", name="Amount", exact=True)
    amount.get_by_role("combobox", name="Kind of answer").select_option("Number")
    amount.get_by_label("Help beside it").fill("In USDC")
    asked.get_by_role("button", name="Add a field").click()
    name = asked.get_by_role("group", name="New field").get_by_label("Field", exact=True)
    name.fill("How fast")
    name.press("Enter")
    fast = asked.get_by_role("group", name="How fast")
    fast.get_by_role("combobox", name="Kind of answer").select_option("One of a list")
    fast.get_by_role("checkbox", name="Must be answered").uncheck()
    wanted = {
        "type": "object",
        "properties": {
            "amount": {"type": "number", "description": "In USDC"},
            "howFast": {"type": "string", "enum": ["A", "B"]},
        },
        "required": ["amount"],
    }
    app.until(lambda: _nodes(server, workflow)["root"].get("payload", {}).get("inputSchema") == wanted)
    asked.get_by_text("How people see it").click()
    expect(asked.get_by_role("textbox", name="Amount")).to_have_accessible_description("In USDC")
    assert app.faults() == []
    for field in ("Amount", "How fast"):
        asked.get_by_role("button", name=f"Remove {field}").click()
    app.until(lambda: "inputSchema" not in _nodes(server, workflow)["root"].get("payload", {}))


@pytest.mark.long
def test_a_curl_command_becomes_a_step_without_its_secret(app: App, server: Server, workflow: str) -> None:
    page = _open(app, workflow)
    page.evaluate(_PASTE, CURL)
    expect(page.get_by_text("Left out")).to_contain_text("Authorization")
    app.until(lambda: "httpRequest" in _nodes(server, workflow))
    node = _nodes(server, workflow)["httpRequest"]
    text = json.dumps(node["payload"])
    assert node["payload"] == {
        "url": "https://api.example.com/orders?all=1",
        "method": "POST",
        "headers": {"x-kind": "t"},
        "json": {"price": 1.1, "text": "it's <b>"},
    }
    assert "s3cret" not in text
    assert _nodes(server, workflow)["root"]["children"] == ["httpRequest"]
    assert app.faults() == []
    page.evaluate(_PASTE, CURL_OF_SECRETS)
    left = "X-Kind, user and password, apikey, form.password, form.text"
    expect(page.get_by_text("Left out")).to_contain_text(left)
    app.until(lambda: "httpRequest2" in _nodes(server, workflow))
    assert _nodes(server, workflow)["httpRequest2"]["payload"] == {
        "url": "https://api.example.com/?all=1",
        "method": "POST",
        "form": {"a": "1"},
    }
    settings = page.get_by_role("complementary", name="Step HTTP request 2", exact=True)
    url = settings.get_by_role("textbox", name="URL", exact=True)
    url.evaluate(_PASTE_INTO, "curl https://b.example.com/x -H 'Authorization: Bearer s3cret'")
    expect(settings.get_by_text("Left out")).to_contain_text("Authorization")
    expect(url).to_have_text("https://b.example.com/x")
    app.until(lambda: _nodes(server, workflow)["httpRequest2"]["payload"] == {"url": "https://b.example.com/x"})


@pytest.mark.long
def test_yaml_and_an_address_become_steps(app: App, server: Server, workflow: str) -> None:
    page = _open(app, workflow)
    page.evaluate(_PASTE, "nothing of the kind")
    expect(page.get_by_text("This is neither")).to_be_visible()
    page.evaluate(_PASTE, YAML)
    app.until(lambda: set(_nodes(server, workflow)) == {"root", "say", "more"})
    assert _nodes(server, workflow)["say"]["children"] == ["more"]
    page.evaluate(_PASTE, "0x" + "ab" * 20)
    question = page.get_by_role("dialog", name="Call this contract")
    question.get_by_label("ABI").fill(ABI)
    expect(question.get_by_label("Function", exact=True)).to_contain_text("balanceOf(address who)")
    assert app.faults() == []
    question.get_by_role("button", name="Add the step").click()
    app.until(lambda: "readContract" in _nodes(server, workflow))
    payload = _nodes(server, workflow)["readContract"]["payload"]
    assert payload["function"] == "balanceOf(address who) view returns (uint256)"
    assert payload["contract"] == "0x" + "ab" * 20


@pytest.mark.long
def test_a_step_is_tested_and_its_result_pinned(app: App, server: Server) -> None:
    say = {"type": "format", "payload": {"template": "{{$trigger.body.word}}!"}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["say"]}, "say": say}})
    run = server.start_run(workflow, payload={"word": "hello"})
    app.until(lambda: server.call("GET", f"/v1/runs/{run}")["finishedAt"])
    page = _open(app, workflow)
    step = choose(page, "Say")
    step.get_by_role("tab", name="Test").click()
    expect(step.get_by_label("Inputs, as JSON")).to_have_value(re.compile("hello!"))
    step.get_by_role("button", name="Test this step").click()
    result = step.get_by_role("region", name="Result of the test").first
    expect(result).to_contain_text("hello!")
    assert app.faults() == []
    result.get_by_role("button", name="Pin this result").click()
    app.until(lambda: _nodes(server, workflow)["say"].get("pinned") == {"text": "hello!"})
    step.get_by_role("button", name="Unpin").click()
    app.until(lambda: "pinned" not in _nodes(server, workflow)["say"])
    step.get_by_label("Inputs, as JSON").fill('{"nothing": 1}')
    step.get_by_role("button", name="Test this step").click()
    expect(step.get_by_text("The inputs of")).to_be_visible()


@pytest.mark.long
def test_a_polled_trigger_is_given_a_connector(app: App, server: Server) -> None:
    hosts = {"allowedHosts": ["shop.example.com"]}
    client = {"tokenUrl": "https://shop.example.com/token", "clientId": "me", "clientSecret": "s3cret-of-a-client"}
    body = {"type": "oauth2-client-credentials", "name": "Shop", "data": client, **hosts}
    made = server.call("POST", "/v1/connectors", body)
    root = {"type": "http-poll", "payload": {"url": "https://shop.example.com/orders"}}
    workflow = server.create_workflow({"nodes": {"root": root}})
    page = _open(app, workflow)
    step = choose(page, "Root")
    step.get_by_label("Connector").select_option("Shop")
    app.until(lambda: _nodes(server, workflow)["root"].get("connector", {}).get("id") == made["id"])
    step.get_by_role("combobox", name="Trigger").click()
    page.get_by_role("option", name="Manual").click()
    app.until(lambda: _nodes(server, workflow)["root"]["type"] == "manual")
    assert "connector" not in _nodes(server, workflow)["root"], "no field is left to take it away"
    assert app.faults() == []


def test_an_amount_is_written_in_whole_coins(app: App, server: Server) -> None:
    pay = {"type": "send-native", "payload": {"chainId": 1, "recipient": "0x" + "11" * 20, "amount": "1"}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay}})
    page = _open(app, workflow)

    def stored() -> Any:
        return _nodes(server, workflow)["pay"]["payload"]["amount"]

    step = choose(page, "Pay")
    coins = step.get_by_label("In ETH")
    expect(coins).to_have_value("0.000000000000000001")
    coins.fill("3127.100000000000000001")
    app.until(lambda: stored() == "3127100000000000000001")
    coins.fill("0.1000000000000000001")
    expect(step.get_by_text("at most 18 decimals")).to_be_visible()
    expect(step.get_by_text("No price is known for ETH")).to_be_visible()
    assert app.faults() == []
    step.get_by_role("button", name="Base units, or an expression").click()
    step.get_by_role("textbox", name="Amount", exact=True).fill("2500000000000000000")
    app.until(lambda: stored() == "2500000000000000000")
    coins.fill("")
    coins.blur()
    app.until(lambda: "amount" not in _nodes(server, workflow)["pay"]["payload"])
    step.get_by_role("textbox", name="Amount", exact=True).fill("{{$trigger.body.wei}}")
    expect(coins).to_have_count(0)


@pytest.mark.long
@pytest.mark.parametrize(("dark", "narrow"), [(False, False), (True, True)])
def test_versions_are_compared_money_first(member: Open, server: Server, dark: bool, narrow: bool) -> None:
    pay = {"chainId": 1, "amount": "1000", "recipient": "0x" + "11" * 20}
    before = {
        "root": {"type": "manual", "children": ["pay", "old"]},
        "old": {"type": "log", "payload": {"message": "x"}},
        "pay": {"type": "send-native", "titleOverride": "Pay", "payload": pay},
    }
    after = {
        "root": {"type": "manual", "children": ["pay", "new"]},
        "new": {"type": "log", "payload": {"message": "y"}},
        "pay": {"type": "send-native", "titleOverride": "Pay them", "payload": {**pay, "amount": "2000"}},
    }
    workflow = server.create_workflow({"nodes": before})
    server.call("PUT", f"/v1/workflows/{workflow}", {"definition": {"nodes": after}})
    app = member(dark=dark, narrow=narrow)
    page = app.open(f"/workflows/{workflow}/versions")
    rows = page.get_by_role("list", name="Differences").get_by_role("listitem")
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("Amount")
    expect(rows.first.get_by_role("deletion")).to_have_text(["1000", "Pay"])
    expect(rows.first.get_by_role("insertion").first).to_have_text("2000")
    if not narrow:
        expect(page.locator(".card.removed")).to_have_count(1)
        expect(page.locator(".card.added")).to_have_count(1)
    assert app.faults() == []
    versions = page.get_by_role("list", name="All versions").get_by_role("listitem")
    expect(versions.first).to_contain_text("you")
    page.get_by_role("button", name="Restore Version 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    page.wait_for_url(re.compile(f"/workflows/{workflow}$"))
    assert _nodes(server, workflow)["pay"]["payload"]["amount"] == "1000"


def test_a_step_comes_between_two_others_and_the_draft_is_published(app: App, server: Server) -> None:
    every = {"type": "interval", "payload": {"everyMs": 3_600_000}, "titleOverride": "Hourly", "children": ["say"]}
    say = {"type": "log", "payload": {"message": "x"}, "titleOverride": "Say"}
    workflow = server.create_workflow({"nodes": {"every": every, "say": say}, "triggerNodeIds": ["every"]})
    page = _open(app, workflow)
    page.get_by_role("button", name="Add a step between Hourly and Say").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Wait", exact=True).click()
    dialog.get_by_role("option", name=re.compile("^Delay")).click()
    app.until(lambda: _nodes(server, workflow)["every"]["children"] == ["delay"])
    assert _nodes(server, workflow)["delay"]["children"] == ["say"]
    page.keyboard.press("Escape")
    page.locator(".card").filter(has_text="Delay").click(button="right")
    page.get_by_role("menuitem", name="Remove the step").click()
    app.until(lambda: _nodes(server, workflow)["every"]["children"] == ["say"])
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_text("This version has not been simulated.")).to_be_visible()
    assert app.faults() == []
    page.get_by_role("dialog").get_by_role("button", name="Publish").click()
    done = page.get_by_role("dialog", name="Published")
    expect(done).to_contain_text(re.compile(r"Next run .*\d\d:\d\d, in "))
    expect(done).to_contain_text("Nobody else is told.")
    expect(page.locator(".mantine-Modal-header")).to_have_count(1)  # the one before is gone
    assert app.faults() == []
    done.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Publish")).to_have_count(0)
    assert server.call("GET", f"/v1/workflows/{workflow}")["status"] == "active"


@pytest.mark.long
def test_steps_are_connected_and_renamed_by_keys(app: App, server: Server) -> None:
    one = {"type": "log", "payload": {"message": "{{$trigger.body.x}}"}}
    nodes = {"root": {"type": "manual", "children": ["a", "b"]}, "a": one, "b": one}
    workflow = server.create_workflow({"nodes": nodes})
    page = _open(app, workflow)

    def leads_to(step: str) -> Any:
        return _nodes(server, workflow)[step].get("children")

    choose(page, "A")
    page.keyboard.press("c")
    page.get_by_role("dialog").get_by_role("combobox").click()
    page.get_by_role("option", name="B", exact=True).click()
    app.until(lambda: leads_to("a") == ["b"])
    page.keyboard.press("Control+z")
    app.until(lambda: not leads_to("a"))
    page.keyboard.press("Control+y")
    app.until(lambda: leads_to("a") == ["b"])
    page.keyboard.press("F2")
    expect(page.get_by_role("complementary").get_by_role("textbox").first).to_be_focused()
    page.keyboard.type("Say <b>it</b>")
    app.until(lambda: _nodes(server, workflow)["a"].get("titleOverride") == "Say <b>it</b>")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Go to a page or a workflow")
    assert app.faults() == []


@pytest.mark.long
def test_notes_and_groups_are_kept_beside_the_steps(app: App, server: Server) -> None:
    nodes = {"root": {"type": "manual", "children": ["say"]}, "say": {"type": "log", "payload": {"message": "x"}}}
    workflow = server.create_workflow({"nodes": nodes})
    place = f"/v1/workflows/{workflow}"
    server.call("PATCH", f"{place}/ui-metadata", {"uiMetadata": {"zoom": 1, "notes": {"odd": 7}}})
    page = _open(app, workflow)
    page.keyboard.press("n")
    page.get_by_role("textbox", name="Note").fill("Ask <b>Ann</b> first")
    choose(page, "Say")
    page.keyboard.press("g")
    page.get_by_role("textbox", name="Title of the group").fill("Talking")
    app.until(lambda: server.call("GET", place)["uiMetadata"].get("groups", {}).get("g1", {}).get("title") == "Talking")
    kept = server.call("GET", place)
    assert kept["uiMetadata"]["groups"] == {"g1": {"title": "Talking", "nodes": ["say"]}}
    assert kept["uiMetadata"]["notes"]["n1"]["text"] == "Ask <b>Ann</b> first"
    assert (kept["uiMetadata"]["zoom"], kept["uiMetadata"]["v"], kept["version"]) == (1, 1, 1)
    page.reload()
    expect(page.get_by_role("textbox", name="Note")).to_have_value("Ask <b>Ann</b> first")
    assert app.faults() == []
    page.get_by_role("button", name="Remove the note").click()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("textbox", name="Note")).to_have_value("Ask <b>Ann</b> first")


@pytest.mark.long
def test_pasted_steps_name_each_other_by_their_new_ids(app: App, server: Server) -> None:
    say = {"type": "log", "payload": {"message": "{{a.status}} {{$nodes.a.status}} a.status {{$trigger.a}}"}}
    nodes = {"root": {"type": "manual", "children": ["a"]}, "a": {"type": "log", "payload": {"message": "x"}}}
    workflow = server.create_workflow({"nodes": nodes})
    page = _open(app, workflow)
    copied = {"a": {"type": "log", "payload": {"message": "y"}, "children": ["b"]}, "b": say}
    page.evaluate(_PASTE, json.dumps({"dustrun": 1, "nodes": copied}))
    app.until(lambda: "b" in _nodes(server, workflow))
    made = _nodes(server, workflow)
    assert made["a"]["payload"]["message"] == "x"
    assert made["a2"]["children"] == ["b"]
    assert made["b"]["payload"]["message"] == "{{a2.status}} {{$nodes.a2.status}} a.status {{$trigger.a}}"


@pytest.mark.long
def test_keys_choose_the_mode_walk_undo_and_tidy(app: App, server: Server) -> None:
    log = {"type": "log", "payload": {"message": "x"}}
    nodes = {"root": {"type": "manual", "children": ["a", "b"]}, "a": log, "b": log, "two": {"type": "manual"}}
    workflow = server.create_workflow({"nodes": nodes, "triggerNodeIds": ["root", "two"]})
    place = f"/v1/workflows/{workflow}"
    server.call("PATCH", f"{place}/ui-metadata", {"uiMetadata": {"v": 1, "nodes": {"a": {"x": 900, "y": 700}}}})
    page = _open(app, workflow)
    modes = page.get_by_role("radiogroup", name="Mode")
    for key, mode in (("2", "Cent test"), ("3", "Live"), ("1", "Simulate")):
        page.keyboard.press(key)
        expect(modes.get_by_role("radio", name=mode)).to_be_checked()
    for arrow, step in (
        ("Down", "Root"),
        ("Right", "Two"),
        ("Left", "Root"),
        ("Down", "A"),
        ("Right", "B"),
        ("Left", "A"),
        ("Left", "A"),
        ("Up", "Root"),
    ):
        page.keyboard.press(f"Alt+Arrow{arrow}")
        expect(page.get_by_role("complementary", name=f"Step {step}", exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary")).to_have_count(0)

    def placed() -> Any:
        return server.call("GET", place)["uiMetadata"]["nodes"]

    page.keyboard.press("Shift+L")
    app.until(lambda: placed() == {})
    page.keyboard.press("Control+z")
    app.until(lambda: placed() == {"a": {"x": 900, "y": 700}})
    page.keyboard.press("Control+Shift+Z")
    app.until(lambda: placed() == {})
    page.keyboard.press("Shift+L")  # nothing is left to tidy, and nothing to undo
    page.keyboard.press("Control+z")
    app.until(lambda: placed() == {"a": {"x": 900, "y": 700}})
    assert server.call("GET", place)["version"] == 1


@pytest.mark.long
def test_copied_steps_keep_their_ways_and_hold_no_secret(app: App, server: Server) -> None:
    secrets = {
        "url": "https://me:s3cret-1@api.example.com/x",
        "headers": {"Authorization": "Bearer s3cret-2", "x-auth-token": "s3cret-3", "accept": "*/*"},
        "json": {
            "text": "{{ 'Bearer s3cret-4-long' }}",
            "password": 7331,
            "fields": [{"name": "apiKey", "value": "s3cret-5"}, "https://x.example.com/?token=s3cret-6"],
            "inside": '{"password": "s3cret-7"}',
            "token": "{{$env.TOKEN}}",
            "amount": 1.5,
        },
    }
    ask = {"type": "http-request", "payload": secrets, "pinned": {"body": "s3cret-8"}, "children": ["say"]}
    say = {"type": "format", "payload": {"template": "{{ask.status}}"}}
    workflow = server.create_workflow(
        {"nodes": {"root": {"type": "manual", "children": ["ask"]}, "ask": ask, "say": say}}
    )
    page = _open(app, workflow)
    choose(page, "Ask")
    choose_too(page, "Say")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Control+c")
    expect(page.get_by_text("Not copied")).to_contain_text("ask.headers.Authorization")
    page.keyboard.press("Control+v")
    app.until(lambda: "say2" in _nodes(server, workflow))
    made = _nodes(server, workflow)
    assert made["ask2"]["payload"] == {
        "headers": {"accept": "*/*"},
        "json": {"fields": [{"name": "apiKey"}], "token": "{{$env.TOKEN}}", "amount": 1.5},
    }
    assert "pinned" not in made["ask2"]
    assert made["ask2"]["children"] == ["say2"]
    assert made["say2"]["payload"] == {"template": "{{ask2.status}}"}
    assert made["ask"] == ask | {"children": ["say"]}


@pytest.mark.long
def test_forms_offer_what_the_server_knows(app: App, server: Server) -> None:
    first = server.create_workflow({"nodes": ROOT_ONLY})
    body = {"name": "Of <b>Ann</b>", "description": "", "definition": {"nodes": ROOT_ONLY}}
    other = server.call("POST", "/v1/workflows", body)["id"]
    swap = {"chainId": 1, "tokenIn": "native", "tokenOut": "0x" + "22" * 20, "amountIn": "1"}
    nodes = {
        "root": {"type": "manual", "children": ["call", "pick"]},
        "call": {"type": "call-workflow", "payload": {"workflowId": first}, "children": ["swap", "say"]},
        "swap": {"type": "swap-uniswap-v3", "payload": swap},
        "say": {"type": "format", "payload": {"template": ""}},
        "pick": {
            "type": "switch",
            "payload": {"cases": [{"name": "large", "expression": "true"}]},
            "children": ["hold"],
        },
        "hold": {"type": "wait", "payload": {"timeoutMs": 5_400_000}},
    }
    workflow = server.create_workflow({"nodes": nodes})
    page = _open(app, workflow)

    def of(name: str) -> Locator:
        if (settings := page.get_by_role("complementary")).count():  # they may be in front of the next step
            settings.get_by_role("button", name="Close").click()
        return choose(page, name)

    _choose(of("Call"), "Workflow ID", "Of <b>Ann</b>")
    app.until(lambda: _nodes(server, workflow)["call"]["payload"]["workflowId"] == other)
    step = of("Swap")
    expect(step.get_by_label("Token out", exact=True)).to_have_value("0x" + "22" * 20)
    step.get_by_label("Chain ID", exact=True).select_option("8453")
    step.get_by_label("Token in", exact=True).select_option("USDC")
    app.until(lambda: _nodes(server, workflow)["swap"]["payload"] == swap | {"chainId": 8453, "tokenIn": "USDC"})
    step.get_by_role("button", name=re.compile("more settings")).click()
    expect(step.get_by_role("group", name="Limits").get_by_role("textbox", name="Deadline seconds")).to_be_visible()
    assert app.faults() == []
    expect(of("Hold").get_by_text("1 h 30 min")).to_be_visible()
    of("Say").get_by_role("textbox", name="Template").focus()
    page.keyboard.type("{{call.result.")
    expect(page.get_by_role("option", name=re.compile("^workflowId"))).to_be_visible()
    page.keyboard.press("Escape")
    of("Pick")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("a")
    expect(page.get_by_role("radiogroup", name="On the branch").get_by_role("radio")).to_have_count(3)


def _choose(step: Locator, field: str, name: str) -> None:
    """A workflow, found on the server by what is typed."""
    box = step.get_by_role("combobox", name=field, exact=True)
    box.click()
    box.fill(name)
    step.page.get_by_role("option", name=name, exact=True).click()


@pytest.mark.long
def test_selectors_find_what_is_beyond_their_first_page(app: App, server: Server) -> None:
    call, wanted = server.call, {"name": "Zebra", "description": "", "definition": {"nodes": ROOT_ONLY}}
    zebra = call("POST", "/v1/workflows", wanted)["id"]
    key = {"type": "http-bearer", "allowedHosts": ["example.com"], "data": {"token": "t" * 20}}
    own = call("POST", "/v1/connectors", {**key, "name": "Zebra key"})["id"]
    for i in range(51):
        call("POST", "/v1/connectors", {**key, "name": f"k{i}"})
    for i in range(51):
        call("POST", "/v1/workflows", {**wanted, "name": f"w{i}"})
    nodes = {
        "root": {"type": "workflow-finished", "payload": {}, "children": ["ask"]},
        "ask": {"type": "http-request", "payload": {"url": "https://example.com"}},
    }
    workflow = server.create_workflow({"nodes": nodes})
    page = _open(app, workflow)
    _choose(choose(page, "Root"), "Workflow IDs", "Zebra")
    app.until(lambda: _nodes(server, workflow)["root"]["payload"].get("workflowIds") == [zebra])
    page.keyboard.press("Escape")
    assert app.faults() == []
    choose(page, "Ask").get_by_label("Connector").select_option("Zebra key")
    app.until(lambda: (_nodes(server, workflow)["ask"].get("connector") or {}).get("id") == own)


@pytest.mark.long
def test_an_address_is_filled_in_from_ones_wallets_and_checked(app: App, server: Server) -> None:
    own = server.call("POST", "/v1/wallets", {"name": "Treasury"})["address"]
    pay = {"type": "send-native", "payload": {"chainId": 1, "amount": "1"}}
    workflow = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["pay"]}, "pay": pay}})
    page = _open(app, workflow)
    step = choose(page, "Pay")
    step.get_by_role("button", name="Treasury").click()
    expect(step.get_by_text("Your wallet Treasury")).to_be_visible()
    app.until(lambda: _nodes(server, workflow)["pay"]["payload"].get("recipient") == own)
    assert app.faults() == []
    step.get_by_role("textbox", name="Recipient").fill(own[:2] + own[2:].swapcase())
    expect(step.get_by_role("alert").first).to_contain_text("a digit may be mistyped")
