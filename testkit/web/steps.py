"""Steps on a canvas, by their names: a key, a field or a button meant for one waits until it is the chosen one."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect


def card(page: Page, name: str) -> Locator:
    """The card of a step in the editor, or in the view of a run."""
    return page.locator(".card").filter(has=page.locator("strong").get_by_text(name, exact=True))


def choose(page: Page, name: str) -> Locator:
    """A step of the editor, by a click on its card; gives its settings, and those of no step chosen before."""
    card(page, name).click()
    settings = page.get_by_role("complementary", name=f"Step {name}", exact=True)
    settings.wait_for()
    return settings


def choose_too(page: Page, name: str) -> None:
    """One more step, besides that which is chosen: no settings are shown then."""
    card(page, name).click(modifiers=["Shift"])
    expect(page.get_by_role("complementary")).to_have_count(0)
