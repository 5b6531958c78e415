"""Two people who edit one workflow: what each of them changed is kept, or given up by a choice that can be undone."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from testkit.e2e.server import Server
from testkit.web.app import App, Open


def _log(message: str, *children: str) -> dict[str, Any]:
    return {"type": "log", "payload": {"message": message}, "children": list(children)}


@pytest.fixture
def workflow(server: Server) -> str:
    """A workflow of three steps; the last one comes after the first, since a third column is behind the settings."""
    steps = {"a": _log("a", "c"), "b": _log("b"), "c": _log("c")}
    return server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["a", "b"]}, **steps}})


class Writer:
    """Somebody at the editor of a workflow, and somebody else who saves in between."""

    def __init__(self, app: App, workflow: str, page: Page | None = None) -> None:
        self.app, self.workflow, self.page = app, workflow, page or app.page
        self.page.goto(f"{app.server.url}/workflows/{workflow}")
        self.page.locator(".card, .steps").first.wait_for()
        self._held: list[Route] = []
        self._is_holding = False

    def say(self, step: str, message: str) -> None:
        """Changes a step's message."""
        self.page.locator(".card, .steps").get_by_text(step, exact=True).click()
        settings = self.page.get_by_role("complementary", name=f"Step {step}", exact=True)
        box = settings.get_by_role("textbox", name="Message")
        box.click()
        box.press("ControlOrMeta+a")  # of the editor: it may not have heard yet what `fill` selects in the page
        self.page.keyboard.insert_text(message)

    def hold(self) -> None:
        """Keeps the saves of this tab back."""
        self._is_holding = True
        self.page.route(re.compile("/v1/workflows/wf_"), self._keep)

    def _keep(self, route: Route) -> None:
        if self._is_holding and route.request.method in ("PUT", "PATCH"):
            self._held.append(route)
        else:
            route.fallback()

    def release(self) -> None:
        """Lets them through."""
        self.app.until(lambda: self._held, self.page)
        self._is_holding = False
        while self._held:
            self._held.pop().continue_()

    def clash(self, mine: dict[str, str], theirs: dict[str, Any]) -> None:
        """Both change steps of the same version; the others save first."""
        self.hold()
        for step, message in mine.items():
            self.say(step, message)
        self.app.until(lambda: self._held, self.page)
        self.others(theirs)
        self.release()
        expect(self.page.get_by_text("Someone else saved version")).to_be_visible()

    def others(self, nodes: dict[str, Any]) -> None:
        """Somebody else changes steps."""
        definition = self.app.server.call("GET", f"/v1/workflows/{self.workflow}")["definition"]
        definition["nodes"] |= nodes
        self.app.server.call("PUT", f"/v1/workflows/{self.workflow}", {"definition": definition})

    def note(self, text: str) -> Locator:
        """The note that says this."""
        return self.page.get_by_role("textbox", name="Note").nth(self.notes().index(text))

    def notes(self) -> list[str]:
        """What the notes say."""
        return [one.input_value() for one in self.page.get_by_role("textbox", name="Note").all()]

    def press(self, name: str) -> None:
        """A button."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def messages(self) -> list[str]:
        """What the three steps say on the server."""
        nodes = self.app.server.call("GET", f"/v1/workflows/{self.workflow}")["definition"]["nodes"]
        return [nodes[step]["payload"]["message"] for step in "abc"]

    def comes_to(self, *messages: str) -> None:
        """Waits until the steps say this on the server, and all is saved."""
        try:
            self.app.until(lambda: self.messages() == list(messages), self.page)
        except AssertionError as error:
            raise AssertionError(f"{self.messages()} instead of {messages}: {error}") from None
        expect(self.page.get_by_text("Saved", exact=True)).to_be_visible()


@pytest.fixture
def me(app: App, workflow: str) -> Writer:
    """Somebody at the editor."""
    return Writer(app, workflow)


def test_two_tabs_keep_both_changes(me: Writer, app: App, workflow: str) -> None:
    other = Writer(app, workflow, app.tab())
    other.hold()
    other.say("B", "theirs")
    me.say("A", "mine")
    me.comes_to("mine", "b", "c")
    other.release()
    expect(other.page.get_by_text("Someone else saved version")).to_be_visible()
    assert app.faults(other.page) == []
    other.say("C", "typed meanwhile")
    other.press("Keep both changes")
    other.comes_to("mine", "theirs", "typed meanwhile")
    me.comes_to("mine", "theirs", "typed meanwhile")
    other.press("Undo")
    other.comes_to("mine", "theirs", "c")
    other.press("Undo")
    other.comes_to("mine", "b", "c")
    other.press("Redo")
    other.comes_to("mine", "theirs", "c")


@pytest.mark.long
def test_undo_takes_back_what_one_changed_oneself(me: Writer) -> None:
    me.say("A", "mine")
    me.comes_to("mine", "b", "c")
    me.others({"b": _log("theirs")})
    me.page.locator(".card").get_by_text("B", exact=True).click()
    expect(me.page.get_by_role("textbox", name="Message")).to_have_text("theirs")
    me.press("Undo")
    me.comes_to("a", "theirs", "c")


@pytest.mark.long
def test_mine_is_kept_and_undone(me: Writer) -> None:
    me.clash({"A": "mine", "C": "mine too"}, {"a": _log("theirs", "c"), "b": _log("theirs too")})
    banner = me.page.get_by_role("alert")
    expect(banner).to_contain_text("Both changed A")
    expect(banner.get_by_role("definition")).to_have_text(["Theirs: theirs · Mine: mine"])
    me.say("A", "mine, and more")
    expect(banner.get_by_role("definition")).to_have_text(["Theirs: theirs · Mine: mine, and more"])
    assert me.app.faults() == []
    me.press("Keep mine")
    me.comes_to("mine, and more", "b", "mine too")
    me.press("Undo")
    me.comes_to("theirs", "theirs too", "c")
    me.press("Redo")
    me.comes_to("mine, and more", "b", "mine too")


@pytest.mark.long
def test_what_others_saved_is_read_again_when_it_could_not_be(me: Writer) -> None:
    refused: list[str] = []

    def refuse(route: Route) -> None:
        refused.append(route.request.url)
        route.abort()

    me.hold()
    me.say("A", "mine")
    me.app.until(lambda: me._held, me.page)
    me.others({"b": _log("theirs")})
    me.page.wait_for_timeout(1_500)  # this tab has looked up what they saved
    at = re.compile(f"/v1/workflows/{me.workflow}$")
    me.page.route(at, lambda route: refuse(route) if route.request.method == "GET" else me._keep(route))
    me.release()
    me.app.until(lambda: refused, me.page)
    me.page.unroute(at)
    me.press("Keep both changes")
    me.comes_to("mine", "theirs", "c")


@pytest.mark.long
def test_a_phone_asks_over_the_settings(member: Open, workflow: str) -> None:
    me = Writer(member(narrow=True), workflow)
    me.clash({"A": "mine"}, {"a": _log("theirs", "c")})
    assert me.app.faults() == []
    me.press("Keep mine")
    me.app.until(lambda: me.messages() == ["mine", "b", "c"])


@pytest.mark.long
def test_theirs_is_taken_and_undone(me: Writer) -> None:
    me.clash({"A": "mine", "C": "mine too"}, {"a": _log("theirs", "c"), "b": _log("theirs too")})
    me.press("Take theirs")
    me.comes_to("theirs", "theirs too", "c")
    expect(me.page.get_by_role("alert")).to_have_count(0)
    me.press("Undo")
    me.comes_to("mine", "b", "mine too")


@pytest.mark.long
@pytest.mark.parametrize(("button", "step"), [("mine", "mine"), ("theirs", "theirs")])
def test_only_what_both_changed_is_chosen(me: Writer, button: str, step: str) -> None:
    me.clash({"A": "mine", "C": "mine too"}, {"a": _log("theirs", "c"), "b": _log("theirs too")})
    me.press(f"Keep both, {button} where both changed")
    me.comes_to(step, "theirs too", "mine too")
    me.press("Undo")
    me.comes_to(*(("theirs", "theirs too", "c") if button == "mine" else ("mine", "b", "mine too")))


@pytest.mark.long
def test_a_removed_step_that_others_lead_to_stays(me: Writer) -> None:
    me.hold()
    me.page.locator(".card").get_by_text("B", exact=True).click()
    me.page.keyboard.press("Delete")
    me.app.until(lambda: me._held)
    me.others({"a": _log("a", "c", "d"), "d": _log("d", "b")})
    me.release()
    expect(me.page.get_by_role("alert")).to_contain_text("Both changed B")
    me.press("Keep both, mine where both changed")
    me.comes_to("a", "b", "c")
    expect(me.page.get_by_role("button", name=re.compile("problem"))).to_have_count(0)


@pytest.mark.long
def test_a_conflict_waits_while_one_looks_elsewhere(me: Writer, server: Server) -> None:
    other = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["z"]}, "z": _log("z")}})
    me.clash({"A": "mine"}, {"a": _log("theirs", "c")})
    _go(me.page, other)
    me.say("Z", "zz")
    me.app.until(lambda: _message(server, other, "z") == "zz")
    _go(me.page, me.workflow)
    me.press("Keep mine")
    me.comes_to("mine", "b", "c")


@pytest.mark.long
def test_a_save_that_is_slow_ends_in_its_own_workflow(me: Writer, server: Server) -> None:
    other = server.create_workflow({"nodes": {"root": {"type": "manual", "children": ["z"]}, "z": _log("z")}})
    me.hold()
    me.say("A", "mine")
    me.app.until(lambda: me._held)
    _go(me.page, other)
    me.page.locator(".card").get_by_text("Z", exact=True).wait_for()
    me.release()
    me.comes_to("mine", "b", "c")
    _stays(me.app, lambda: _message(server, other, "z") == "z" and not me.page.get_by_role("alert").count())
    assert server.call("GET", f"/v1/workflows/{other}")["version"] == 1


@pytest.mark.long
def test_notes_of_two_people_are_kept(member: Open, server: Server, workflow: str) -> None:
    app = member()
    me, other = Writer(app, workflow), Writer(app, workflow, app.tab())
    for writer, text in ((me, "Ask Ann"), (other, "Ask Bob")):
        writer.page.keyboard.press("n")
        app.until(lambda: "" in writer.notes(), writer.page)  # noqa: B023 - beside it the other's may be there already
        writer.note("").fill(text)
        expect(writer.page.get_by_text("Saved", exact=True)).to_be_visible()
    app.until(lambda: sorted(_notes(server, workflow)) == ["Ask Ann", "Ask Bob"], other.page)
    for writer in (me, other):  # each sees what the other has saved
        expect(writer.page.get_by_role("textbox", name="Note")).to_have_count(2)
    me.hold()
    me.note("Ask Ann").fill("Ask Ann soon")
    app.until(lambda: me._held, me.page)
    other.note("Ask Ann").fill("Ask Ann first")
    app.until(lambda: "Ask Ann first" in _notes(server, workflow), other.page)
    me.release()
    all_of_them = ["Ask Ann first", "Ask Ann soon", "Ask Bob"]
    app.until(lambda: sorted(_notes(server, workflow)) == all_of_them, me.page)
    for writer in (me, other):
        expect(writer.page.get_by_role("textbox", name="Note")).to_have_count(3)


@pytest.mark.long
def test_notes_that_are_saved_at_the_same_moment_are_kept(app: App, server: Server, workflow: str) -> None:
    me, other = Writer(app, workflow), Writer(app, workflow, app.tab())
    held: list[Route] = []
    other.page.route("**/ui-metadata", lambda route: held.append(route), times=1)
    for writer, text in ((other, "Ask Bob"), (me, "Ask Ann")):
        writer.page.keyboard.press("n")
        writer.page.get_by_role("textbox", name="Note").fill(text)
        app.until(lambda: held, writer.page)
    app.until(lambda: _notes(server, workflow) == ["Ask Ann"], me.page)
    held[0].continue_()
    app.until(lambda: sorted(_notes(server, workflow)) == ["Ask Ann", "Ask Bob"], other.page)
    expect(other.page.get_by_role("textbox", name="Note")).to_have_count(2)


def _notes(server: Server, workflow: str) -> list[str]:
    kept = server.call("GET", f"/v1/workflows/{workflow}")["uiMetadata"] or {}
    return [note["text"] for note in kept.get("notes", {}).values()]


def _message(server: Server, workflow: str, step: str) -> str:
    return str(server.call("GET", f"/v1/workflows/{workflow}")["definition"]["nodes"][step]["payload"]["message"])


def _go(page: Page, workflow: str) -> None:
    """Within the app, without a new document."""
    page.evaluate("(to) => history.pushState(null, '', to)", f"/workflows/{workflow}")


def _stays(app: App, holds: Callable[[], bool]) -> None:
    """For longer than a save waits."""
    for _ in range(20):
        assert holds()
        app.page.wait_for_timeout(100)
