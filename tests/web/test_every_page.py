"""Every page of the app in both themes and both widths, and what is true of all tabs together."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from testkit.e2e.guide import ROOT
from testkit.e2e.server import Server
from testkit.web.app import NARROW, NOTHING, WIDE, App, Open

_PATH = re.compile(r"\bpath: '([^']+)'")
_PUBLIC = "/forms/:secret"
_TWO_LOOKS = (("wide", "light"), ("narrow", "dark"))
_ALL_LOOKS = (*_TWO_LOOKS, ("wide", "dark"), ("narrow", "light"))
ASKS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "order": {"type": "string", "description": "Number of the order", "title": "Your order"},
        "urgent": {"type": "boolean"},
        "amount": {"type": "number", "default": 1},
        "how": {"enum": ["card", "bank"]},
    },
    "required": ["order"],
}


def _paths() -> set[str]:
    """The path of every page that the app has."""
    routes = (ROOT / "web" / "src" / "routes.tsx").read_text()
    app = (ROOT / "web" / "src" / "shell" / "App.tsx").read_text()
    assert f'path="{_PUBLIC}"' in app
    return {*_PATH.findall(routes), _PUBLIC}


class World:
    """One of everything, so that every page has something to show. `of`: by path, the page of one thing."""

    def __init__(self, server: Server) -> None:
        self.server, call = server, server.call
        nodes: dict[str, Any] = {
            "root": {"type": "manual", "payload": {"inputSchema": ASKS}, "children": ["ask"]},
            "ask": {"type": "approve", "payload": {"message": "Pay?", "allowStarter": True}, "children": ["answer"]},
            "answer": {"type": "respond", "payload": {"body": {"got": "{{$trigger.body.order}}"}}},
        }
        workflow = self.workflow = server.create_workflow({"nodes": nodes})
        changed = {**nodes, "answer": {"type": "respond", "payload": {"body": "{{$trigger.body.order}}"}}}
        call("PUT", f"/v1/workflows/{workflow}", {"definition": {"nodes": changed}})
        call("POST", f"/v1/workflows/{workflow}/publish", {})
        self.run = server.start_run(workflow, payload={"order": "17"})
        self.made = call("POST", f"/v1/workflows/{workflow}/forms", {"title": "Ask", "description": "For a refund"})
        self.secret = str(self.made["url"]).rpartition("/")[2]
        connector = {"type": "http-bearer", "name": "c", "allowedHosts": ["example.com"], "data": {"token": "t" * 20}}
        hook = {"name": "h", "url": "https://hooks.example.com/x", "subscribedEventTypes": ["run.*"]}
        table = call("POST", "/v1/tables", {"name": "t", "columns": [{"name": "id", "type": "text"}]})["id"]
        call("POST", f"/v1/tables/{table}/rows", {"rows": [{"id": "a"}]})
        call("PUT", f"/v1/contracts/1/0x{'ab' * 20}", {"name": "Vault", "kind": "vault"})
        call("POST", "/v1/roles", {"name": "bookkeeper", "permissions": ["run:read", "transaction:read"]})
        self.account = call("POST", "/v1/service-accounts", {"name": "shop", "role": "bookkeeper"})["id"]
        call("POST", "/v1/api-keys", {"name": "shop-1", "serviceAccountId": self.account})
        ids = {
            "workflows": workflow,
            "runs": self.run,
            "wallets": call("POST", "/v1/wallets", {"name": "w"})["id"],
            "connectors": call("POST", "/v1/connectors", connector)["id"],
            "hooks": call("POST", "/v1/hooks", hook)["id"],
            "tables": table,
            "assistant": call("POST", "/v1/conversations", {"title": "c"})["id"],
        }
        self._ids = ids | {"conversations": ids["assistant"]}

    def address(self, path: str) -> str:
        """Where a page of that path is."""
        if path == _PUBLIC:
            return path.replace(":secret", self.secret)
        noun = path.split("/")[1]
        if noun == "approvals" and ":id" in path:
            self._ids[noun] = self.server.call("GET", "/v1/approvals")["items"][0]["id"]
        return path.replace(":id", self._ids[noun]) if ":id" in path else path


@pytest.fixture(scope="module")
def world(server: Server) -> World:
    """Made once."""
    return World(server)


def _faults_of(app: App, page: Page, looks: Sequence[tuple[str, str]] = _ALL_LOOKS) -> dict[str, list[str]]:
    """The faults that axe finds by all of its rules, in each of these widths and themes."""
    found: dict[str, list[str]] = {}
    for name, theme in looks:
        width, height = WIDE if name == "wide" else NARROW
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        found[f"{name}, {theme}"] = app.faults(page)
        across = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found[f"{name}, {theme}, too broad"] = [f"{across} px"] if across > 0 else []
    found["policy"] = page.evaluate("window.__violations")
    return {look: faults for look, faults in found.items() if faults}


@pytest.mark.parametrize("looks", ["one", pytest.param("all", marks=pytest.mark.long)])
def test_every_page_is_accessible(app: App, world: World, looks: str) -> None:
    """Every change sees one page wide and light, and the next one narrow and dark."""
    page = app.page
    wrong: dict[str, Any] = {}
    states = (
        f"/runs/{world.run}?step=ask",
        NOTHING,
        f"/runs/{world.run}?tab=events",
        f"/workflows/{world.workflow}?step=ask",
        "/roles?role=bookkeeper",
        f"/service-accounts?account={world.account}",
    )
    for number, path in enumerate((*sorted(_paths()), *states)):
        page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        app.turn_to(world.address(path))
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_text(re.compile("^Loading"))).to_have_count(0)
        if faults := _faults_of(app, page, _ALL_LOOKS if looks == "all" else _TWO_LOOKS[number % 2 :][:1]):
            wrong[path] = faults
    assert wrong == {}


@pytest.mark.long
def test_what_is_not_there_is_named_and_leads_back(app: App, world: World) -> None:
    page = app.page
    wrong: dict[str, Any] = {}
    for path in sorted(path for path in _paths() if ":id" in path):
        app.turn_to(path.replace(":id", "wf_00000000000000000000000000"))
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^No such"))
        back = page.locator("main").get_by_role("link", name=re.compile("^All"))
        expect(back).to_be_visible()
        if faults := _faults_of(app, page):
            wrong[path] = faults
    assert wrong == {}


@pytest.mark.long
@pytest.mark.parametrize("path", ["/runs", "/approvals", "/connectors", "/hooks"])
def test_a_phone_gives_names_the_most_room(member: Open, world: World, path: str) -> None:
    page = member(narrow=True).open(path)
    cells = page.get_by_role("row").nth(1).get_by_role("cell")
    expect(cells.first).to_be_visible()
    name, *others = (box["width"] for box in _boxes(page.get_by_role("columnheader")))
    assert name > max(others), (name, others)
    assert cells.evaluate_all("all => all.slice(1).filter((e) => e.scrollWidth > e.clientWidth).length") == 0


def _boxes(found: Locator) -> list[Any]:
    """Where those are that can be seen."""
    expect(found.first).to_be_visible()
    return [box for one in found.all() if (box := one.bounding_box())]


def test_a_form_is_answered_by_somebody_without_a_key(app: App, window: Open, world: World) -> None:
    server = world.server
    page = app.open(f"/workflows/{world.workflow}")
    page.get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name="Public forms").click()
    expect(page.get_by_role("table", name="Public forms").get_by_role("row")).to_have_count(2)
    page.get_by_role("button", name="New link").click()
    dialog = page.get_by_role("dialog", name="New link")
    dialog.get_by_label("Title").fill("Ask <b>for</b> it")
    dialog.get_by_label("Maximum runs").fill("1")
    dialog.get_by_role("combobox", name="Mode of its runs").click()
    page.get_by_role("option", name=re.compile("^Live")).click()
    assert app.faults() == []
    dialog.get_by_role("button", name="Create the link").click()
    shown = page.get_by_role("dialog", name="The link, shown once")
    url = str(shown.locator("code").inner_text())
    assert app.faults() == []
    shown.get_by_role("button", name="I have copied it").click()

    public = window(dark=True, narrow=True)
    theirs = public.page
    theirs.goto(server.url + "/forms/" + url.rpartition("/")[2])
    expect(theirs.get_by_role("heading", name="Ask <b>for</b> it")).to_be_visible()
    theirs.get_by_label("Your order").fill("17")
    theirs.get_by_label("Amount").fill("0.100000000000000000001")
    theirs.get_by_role("combobox", name="How").click()
    theirs.get_by_role("option", name="bank").click()
    assert public.faults() == []
    _lose_one_answer(theirs)
    theirs.get_by_role("button", name="Send", exact=True).click()
    expect(theirs.get_by_text("It is unknown whether")).to_be_visible()
    expect(theirs.get_by_label("Your order")).to_be_disabled()
    theirs.get_by_role("button", name="Send it again").click()
    expect(theirs.get_by_text("Your answer has arrived.")).to_be_visible()
    expect(theirs).to_have_url(re.compile("#"))
    theirs.reload()
    expect(theirs.get_by_text("Your answer has arrived.")).to_be_visible()
    [run] = server.call("GET", "/v1/runs?mode=live&limit=1")["items"]
    whole = server.call("GET", f"/v1/runs/{run['id']}")
    assert whole["triggerSource"] == "form"
    assert whole["payload"] | {"amount": 0} == {"order": "17", "urgent": False, "amount": 0, "how": "bank"}
    question = public.until(lambda: _questions(server, run["id"]))[0]
    server.call("POST", f"/v1/approvals/{question['id']}/approve", {})
    expect(theirs.get_by_text("17", exact=True)).to_be_visible()
    assert public.faults() == []
    theirs.get_by_role("button", name="Submit another answer").click()
    expect(theirs.get_by_text("answered as often as it may be")).to_be_visible()

    page.get_by_role("button", name="Revoke Ask <b>for</b> it").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("revoked")).to_be_visible()
    theirs.reload()
    expect(theirs.get_by_role("heading", name="There is no such form")).to_be_visible()
    assert public.faults() == []


def _questions(server: Server, run: str) -> list[Any]:
    open_ones = server.call("GET", "/v1/approvals?status=pending")["items"]
    return [one for one in open_ones if one["runId"] == run]


def _lose_one_answer(page: Page) -> None:
    """The next submission arrives, and its answer does not."""
    lost: list[int] = []

    def lose(route: Any) -> None:
        if lost or route.request.method != "POST":
            route.continue_()
            return
        lost.append(route.fetch().status)
        route.abort()

    page.route(re.compile(r"/v1/forms/[^/]+$"), lose)


def test_one_tab_listens_for_all(app: App, window: Open, world: World) -> None:
    server, first, second = world.server, app.page, app.tab()
    asked: list[str] = []

    def note(page: Page, name: str) -> None:
        page.on("request", lambda sent: asked.append(name) if "/v1/activity/stream" in sent.url else None)

    note(first, "first")
    note(second, "second")
    first.goto(f"{server.url}/activity")
    app.until(lambda: asked == ["first"])
    second.goto(f"{server.url}/activity")
    here, there = (page.get_by_role("list", name="Now").get_by_role("listitem") for page in (first, second))
    expect(second.get_by_text("listening")).to_be_visible()
    _tell(app, server, world.workflow, there.count)
    assert asked == ["first"]
    app.until(lambda: here.count() and here.all_inner_texts() == there.all_inner_texts())
    before = there.count()
    first.close()
    app.until(lambda: asked == ["first", "second"], second)
    _tell(app, server, world.workflow, lambda: there.count() > before, second)
    third = app.page = app.tab()
    third.goto(f"{server.url}/activity")
    note(third, "third")
    assert asked == ["first", "second"]


def _tell(app: App, server: Server, workflow: str, holds: Callable[[], Any], page: Page | None = None) -> None:
    server.start_run(workflow, payload={"order": "1"}, simulate=True)
    app.until(holds, page)
