"""A person who has never been here and has read nothing: what they click (on a phone: tap) and type is counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Locator, Page, expect

from testkit.web.app import App


@dataclass(frozen=True)
class Effort:
    """Clicks, and keys pressed in fields and lists."""

    clicks: int
    keys: int


class Newcomer:
    """Begins on the first page, by real clicks and keys."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.page: Page = app.open("/")
        self._clicks = self._keys = 0
        self.inspector = self.page.get_by_role("complementary")

    @property
    def effort(self) -> Effort:
        """What it took so far."""
        return Effort(self._clicks, self._keys)

    def took(self, clicks: int, keys: int) -> None:
        """At most so many: what it takes may fall, and must not rise. Nothing on the last page is wrong, as axe finds
        in Chromium: the process of a page in Firefox 153 may crash under its rules."""
        browser = self.page.context.browser
        assert browser is not None
        if browser.browser_type.name == "chromium":
            faults = self.app.faults()
            assert faults == [], faults
        print(f"{self.effort}, at most {clicks} and {keys}")
        assert self._clicks <= clicks, self.effort
        assert self._keys <= keys, self.effort

    def click(self, what: Locator) -> None:
        """One click."""
        what.click()
        self._clicks += 1

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.page.keyboard.type(text)
        self._keys += len(text)

    def paste(self, text: str) -> None:
        """What was copied elsewhere, by one key: into what has the focus."""
        elsewhere = self.page.context.new_page()
        elsewhere.set_content("<textarea></textarea>")
        elsewhere.locator("textarea").fill(text)
        elsewhere.locator("textarea").press("Control+a")
        elsewhere.locator("textarea").press("Control+c")
        elsewhere.close()
        self.page.bring_to_front()
        self.press("Control+v")

    def press(self, key: str) -> None:
        """One key."""
        self.page.keyboard.press(key)
        self._keys += 1

    def begin(self, starts_by: str | None = None) -> None:
        """A new workflow; what starts it is asked first."""
        self.click(self.page.get_by_role("button", name="New workflow").first)
        box = self.inspector.get_by_role("combobox", name="Trigger")
        expect(box).to_have_value("Manual")
        if starts_by:
            self.click(box)
            self.click(self.page.get_by_role("option", name=starts_by).first)

    def add(self, words: str, branch: str | None = None) -> None:
        """One step after the chosen one: the first that is found."""
        self.click(self.page.get_by_role("button", name="Add a step", exact=True))
        dialog = self.page.get_by_role("dialog")
        if branch and not dialog.get_by_role("radio", name=branch, exact=True).is_checked():
            self.click(dialog.get_by_text(branch, exact=True))
        expect(dialog.get_by_role("combobox", name="Search steps")).to_be_focused()
        self.type(words)
        self.press("Enter")
        expect(dialog).to_have_count(0)

    def fill(self, field: str, text: str) -> None:
        """A field of the step."""
        self.click(self.inspector.get_by_role("textbox", name=field, exact=True))
        self.type(text)
        if self.page.locator(".cm-tooltip").count():
            self.press("Escape")

    def write(self, text: str, inside: Locator | None = None) -> None:
        """Into the field that has the focus by itself, as that of a step which was just added or of a dialog has."""
        expect((inside or self.inspector).locator(":focus")).to_have_count(1)
        self.type(text)
        if self.page.locator(".cm-tooltip").count():
            self.press("Escape")

    def choose(self, field: str, value: str) -> None:
        """A choice of the step: one click opens the list, one takes the value."""
        self.inspector.get_by_role("combobox", name=field, exact=True).select_option(value)
        self._clicks += 2

    def press_button(self, name: str) -> None:
        """A button of the step's form."""
        self.click(self.inspector.get_by_role("button", name=name, exact=True))

    def attempt(self) -> None:
        """Has the trigger look once: expressions and the payload begin with what it saw."""
        self.click(self.inspector.get_by_role("tab", name="Test"))
        self.press_button("Try this trigger")
        seen = self.inspector.get_by_role("region", name="What a run would start with")
        expect(seen).to_contain_text("A real event")
        # the pointer rests on the button: what it says can be read there too
        assert self.app.faults(only=["color-contrast"]) == []

    def simulate(self) -> dict[str, Any]:
        """Until the run has passed; the nodes of its version."""
        call, runs = self.app.server.call, "/v1/runs?mode=simulate&limit=1"
        before = [run["id"] for run in call("GET", runs)["items"]]
        self.click(self.page.get_by_role("button", name="Simulate", exact=True))
        [new] = self.app.until(lambda: [one for one in call("GET", runs)["items"] if one["id"] not in before])
        run = self.app.until(lambda: _ended(call("GET", f"/v1/runs/{new['id']}")))
        assert run["passed"], {node: state["error"] for node, state in run["executionState"].items()}
        expect(self.page.get_by_role("region", name="Run and effects")).to_contain_text("Run finished")
        nodes: dict[str, Any] = run["workflowDefinition"]["nodes"]
        return nodes


def _ended(run: dict[str, Any]) -> dict[str, Any] | None:
    return run if run["finishedAt"] else None
