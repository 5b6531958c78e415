"""Signing in and out, the lists, and a run that is watched."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Route, expect

from served import ROOT
from testkit.e2e.server import Server, new_run_id
from testkit.web.app import App, Open

STEPS = {
    "root": {"type": "manual", "children": ["say"]},
    "say": {"type": "format", "payload": {"template": "{{$trigger.body.amount}}"}, "children": ["hold"]},
    "hold": {"type": "wait", "payload": {"timeoutMs": 3_600_000}},
}


@pytest.fixture(scope="module")
def workflow(server: Server) -> str:
    """A workflow that waits for a person, once run."""
    return server.create_workflow({"nodes": STEPS})


@pytest.fixture(scope="module")
def run(server: Server, workflow: str) -> str:
    """A run that waits."""
    run = server.start_run(workflow, payload={"amount": "AMOUNT"})
    return run


def test_the_app_knows_every_event() -> None:
    stream = (ROOT / "web" / "src" / "api" / "stream.ts").read_text()
    listed = re.findall(r"'(\w+)'", stream[stream.index("EVENT_TYPES") : stream.index("] as const")])
    documented = (ROOT / "docs" / "guides" / "streams.md").read_text()
    assert set(listed) == set(re.findall(r"^\| `(\w+)` \|", documented, re.MULTILINE))


def test_a_key_signs_in_and_out(window: Open, server: Server) -> None:
    app = window()
    page = app.page
    page.goto(f"{server.url}/runs")
    page.get_by_label("API key", exact=True).fill("dustrun_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("That key is not valid.")).to_be_visible()
    assert app.faults() == []
    page.get_by_label("API key", exact=True).fill(server.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


@pytest.mark.long
def test_a_link_signs_in_once_and_leaves_no_trace(window: Open, server: Server) -> None:
    link = server.call("POST", "/v1/session/links")["url"].partition("#")[2]
    first = window()
    first.page.goto(f"{server.url}/#{link}")
    expect(first.page.get_by_role("heading", name="Workflows")).to_be_visible()
    assert "signin" not in first.page.url
    second = window()
    second.page.goto(f"{server.url}/#{link}")
    expect(second.page.get_by_text("This sign-in link has already been used")).to_be_visible()


@pytest.mark.long
def test_an_empty_workflow_is_made_and_a_file_is_imported(app: App, server: Server, workflow: str) -> None:
    page = app.open("/workflows")
    page.get_by_role("button", name="New workflow").click()
    page.wait_for_url(re.compile("/workflows/wf_"))
    page.go_back()
    example = json.loads((ROOT / "examples" / "price-check.json").read_text()) | {"maxRuns": 3}
    file = {"name": "price-check.json", "mimeType": "application/json", "buffer": json.dumps(example).encode()}
    page.get_by_label("Import a file").set_input_files(file)  # type: ignore[arg-type]
    page.wait_for_url(re.compile("/workflows/wf_"))
    name = example["name"]
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    made = page.url.rpartition("/")[2].partition("?")[0]
    assert server.call("GET", f"/v1/workflows/{made}")["maxRuns"] == 3
    page.get_by_role("button", name="More actions").click()
    with page.expect_download() as waiting:
        page.get_by_role("menuitem", name="Export as a file").click()
    page.go_back()
    page.get_by_label("Import a file").set_input_files(waiting.value.path())
    page.wait_for_url(re.compile("/workflows/wf_"))
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="New workflow").click()
    page.wait_for_url(re.compile("/workflows/wf_"))
    page.go_back()
    page.get_by_placeholder("Search names").fill("price ch")
    expect(page.get_by_role("table", name="Workflows").get_by_role("row")).to_have_count(3)
    assert app.faults() == []


@pytest.mark.long
def test_the_palette_goes_to_pages_and_workflows(app: App, server: Server, workflow: str) -> None:
    server.call("PUT", f"/v1/workflows/{workflow}", {"name": "Zebra <b>crossing</b>"})
    page = app.open("/runs")
    page.keyboard.press("Control+k")
    search = page.get_by_role("combobox", name="A page, a workflow, a run, a step …")
    expect(search).to_be_focused()
    search.fill("wal")
    expect(page.get_by_role("option").first).to_have_text(re.compile("^Wallets"))
    assert app.faults() == []
    page.keyboard.press("Enter")
    page.wait_for_url("**/wallets")
    page.keyboard.press("Control+k")
    search.fill("zebra")
    expect(page.get_by_role("option")).to_have_text([re.compile("Zebra <b>crossing</b>")])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/workflows/{workflow}")
    expect(page.locator(".card").first).to_be_visible()
    page.keyboard.press("Control+k")
    page.keyboard.press("Escape")
    expect(search).to_have_count(0)


def test_a_run_is_found_watched_and_cancelled(app: App, server: Server, workflow: str, run: str) -> None:
    server.call("PUT", f"/v1/workflows/{workflow}", {"name": "Followed"})
    page = app.open("/workflows?q=followed")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=re.compile("Waiting.*Live")))
    expect(row.get_by_text("Not yet")).to_have_attribute("title", re.compile("Simulated: not yet passed"))
    page.get_by_label("Search names and descriptions").fill("Follow")
    expect(page).to_have_url(f"{server.url}/workflows?q=Follow")
    expect(row.get_by_role("link", name=re.compile("Waiting.*Live"))).to_have_attribute("href", f"/runs/{run}")

    page = app.open("/runs?status=waiting&to=2001-01-01")
    expect(page.get_by_text("Nothing matches these filters.")).to_be_visible()
    page.get_by_label("Up to this day").fill("")
    page.get_by_label("Search workflows, ids and errors").fill("no such run")
    expect(page.get_by_text("Nothing matches these filters.")).to_be_visible()
    expect(page).to_have_url(f"{server.url}/runs?status=waiting&q=no+such+run")
    page.get_by_label("Search workflows, ids and errors").fill(run[4:].upper())
    expect(page.get_by_role("table", name="Runs").get_by_role("row")).to_have_count(2)
    page.reload()
    expect(page.get_by_label("Search workflows, ids and errors")).to_have_value(run[4:].upper())
    page.get_by_role("combobox", name="Started by").click()
    page.get_by_role("option", name="Me", exact=True).click()
    expect(page).to_have_url(re.compile("by=me$"))
    expect(page.get_by_role("table", name="Runs").get_by_role("row")).to_have_count(2)
    app.open("/")
    mine = page.get_by_role("region", name="What you started")
    expect(mine.get_by_role("link", name="Followed").first).to_have_attribute("href", f"/runs/{run}")
    app.open("/runs?by=per_nobody")
    expect(page.get_by_text("Nothing matches these filters.")).to_be_visible()
    app.open(f"/runs?by=me&status=waiting&q={run}")
    page.get_by_role("link", name=re.compile(run)).click()
    page.wait_for_url(f"**/runs/{run}")
    page.get_by_role("button", name="Show as a list").click()
    steps = page.get_by_role("list", name="Steps")
    expect(steps.get_by_role("button", name=re.compile("Hold.*Waiting"))).to_be_visible()
    steps.get_by_role("button", name=re.compile("Say")).click()
    expect(page.get_by_role("complementary", name="say")).to_contain_text("AMOUNT")
    assert app.faults() == []
    page.get_by_role("button", name="Cancel run").click()
    expect(page.get_by_role("button", name="Keep it running")).to_be_focused()
    assert app.faults() == []
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    expect(page.locator("header.top").get_by_text("Cancelled")).to_be_visible()
    page.get_by_role("tab", name="Every event").click()
    expect(page.get_by_role("list", name="What happened").get_by_role("listitem")).to_have_count(
        len(server.events_of(run))
    )
    assert server.call("GET", f"/v1/runs/{run}")["status"] == "cancelled"


_UNNAMED = """
window.__unnamed = 0
new MutationObserver(() => { if (!document.querySelector('h1')) window.__unnamed++ })
  .observe(document.body, { childList: true, subtree: true })
"""


@pytest.mark.long
def test_a_workflow_that_is_not_there_stays_named_when_another_is_run(app: App, workflow: str) -> None:
    page = app.open("/workflows/wf_00000000000000000000000000")
    expect(page.get_by_role("heading", level=1)).to_have_text("No such workflow")
    page.evaluate(_UNNAMED)
    lists = app.tab()
    lists.goto(f"{app.server.url}/runs?workflow={workflow}")
    expect(lists.get_by_role("heading", name="Runs")).to_be_visible()
    run = app.server.start_run(workflow, payload={"amount": "1"})
    expect(lists.get_by_text(run)).to_be_visible()
    page.wait_for_timeout(1_000)  # heard of by both pages at once, and asked again 0.7 s later
    assert page.evaluate("window.__unnamed") == 0


@pytest.mark.long
def test_a_run_that_is_not_there_stays_named_when_its_stream_is_refused(app: App) -> None:
    answers: list[str] = []
    app.page.on("response", lambda one: answers.append(one.url.partition("/v1/runs/none")[2]))
    page = app.open("/runs/none")
    expect(page.get_by_role("heading", level=1)).to_have_text("No such run")
    page.evaluate(_UNNAMED)
    app.until(lambda: "/stream" in answers)
    answers.clear()
    app.until(lambda: "?nodeIds=-" in answers)  # why the stream was refused
    page.wait_for_timeout(500)
    assert page.evaluate("window.__unnamed") == 0


@pytest.mark.long
def test_a_run_can_be_watched_before_it_is_accepted(app: App, workflow: str) -> None:
    run = new_run_id()
    page = app.open(f"/runs/{run}")
    expect(page.get_by_role("heading", level=1)).to_have_text("No such run")
    app.server.start_run(workflow, runId=run, payload={"amount": "1"})
    expect(page.locator("header.top").get_by_text("Waiting")).to_be_visible()


@pytest.mark.long
def test_a_run_that_waits_since_it_was_asked_for_says_so(app: App, workflow: str) -> None:
    run = app.server.start_run(workflow, payload={"amount": "1"})
    app.until(lambda: app.server.call("GET", f"/v1/runs/{run}")["status"] == "waiting")
    early: list[str] = []

    def answer_from_before(route: Route) -> None:
        found = route.fetch().json()
        early.append(found["data"]["status"])
        route.fulfill(json={**found, "data": {**found["data"], "status": "running"}})

    app.page.route(re.compile(rf"/v1/runs/{run}\?nodeIds=-$"), answer_from_before, times=1)
    page = app.open(f"/runs/{run}")
    expect(page.locator("header.top").get_by_text("Waiting")).to_be_visible()
    assert early == ["waiting"]
