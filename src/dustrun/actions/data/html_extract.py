r"""Extracts texts, attributes or markup from an HTML page with a CSS selector.

For pages whose site has no API. `first` returns the first element, `all` returns all of them in document order. White
space in texts is collapsed, so that they compare. For rows with several fields extract the rows as `html` and process
each one in a loop.

Pages are normalised first: every element is closed, and styles, frames, comments and the tags of drawings are removed.
Scripts are kept as text only for selectors that name `script` (JSON-LD); a `<` before a letter is written `\u003c`
there. The page's own JavaScript does not run. CSS: https://developer.mozilla.org/docs/Web/CSS/CSS_selectors
"""

from __future__ import annotations

import re
import threading
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from dustrun.actions.data.html_balanced import MOST_LEVELS, TooDeep, balance
from dustrun.actions.data.items import refuse
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.threads import run_in_thread

_MOST_CHARS: Final = 1_048_576
_MOST_ELEMENTS: Final = 50_000
_MOST_ELEMENTS_COSTLY: Final = 10_000
_COSTLY = re.compile(r":(?:has|nth-[a-z-]+|only-of-type|first-of-type|last-of-type)", re.IGNORECASE)
_HAS = re.compile(r":has\(([^()]*)(.?)", re.IGNORECASE)
_SIMPLE_INSIDE = re.compile(r"\s*[>+~]?\s*[^\s>+~,]+\s*")
_SPELT_OUT = re.compile(r"\\[0-9a-zA-Z]")


class Input(Fields):
    """The page and the selector."""

    html: str = Field(max_length=_MOST_CHARS, description="The page, or a part of one.")
    selector: str = Field(min_length=1, max_length=200, description="A CSS selector; `:has` and `:nth-…` at most once.")
    operation: Literal["first", "all"] = Field("first", description="The first element, or all.")
    take: Literal["text", "html", "attribute"] = Field("text", description="What to extract from an element.")
    attribute: str | None = Field(None, max_length=100, description="Name of the attribute, for `take: attribute`.")
    collapse: bool = Field(True, description="Whether to collapse white space in texts.")
    on_missing: Literal["fail", "null"] = Field(
        "fail", description="If `first` finds no element: fail the node, or return null."
    )
    max_matches: int = Field(1000, ge=1, le=10_000, description="Fail the node if there are more elements than this.")

    @field_validator("selector")
    @classmethod
    def _readable(cls, selector: str) -> str:
        if "{{" not in selector:
            _check_selector(selector)
        return selector

    @model_validator(mode="after")
    def _fits(self) -> Input:
        if (self.attribute is not None) != (self.take == "attribute"):
            raise ValueError("`take: attribute` requires `attribute`; other values of `take` do not allow it")
        return self


class Output(Fields):
    """The extracted values."""

    found: bool = Field(description="Whether an element was found.")
    value: str | None = Field(description="The value of the first element; null if it lacks the attribute.")
    values: list[str | None] = Field(description="The values of all elements, for `all`.")
    count: int = Field(description="Number of elements found.")


def _check_selector(selector: str) -> None:
    from selectolax.lexbor import LexborHTMLParser, SelectolaxError  # slow import

    if _SPELT_OUT.search(selector):
        raise ValueError("a backslash may only escape punctuation, not a letter or a digit")
    if len(_COSTLY.findall(selector)) > 1:
        raise ValueError("`:has`, `:nth-…` and `:…-of-type` may be used once in a selector")
    for inside, end in _HAS.findall(selector):
        if end != ")" or not _SIMPLE_INSIDE.fullmatch(inside):
            raise ValueError("`:has(…)` may only contain one simple selector, like `:has(> td.price)`")
    try:
        LexborHTMLParser("<p></p>").css(selector)
    except SelectolaxError:
        raise ValueError(f'"{selector}" is not a CSS selector') from None


def _tidied(input: Input) -> str:
    try:
        page, count = balance(input.html, separate_blocks=input.take == "text" and input.collapse)
    except TooDeep:
        raise refuse(f"The page is nested deeper than {MOST_LEVELS} elements", "html") from None
    most = _MOST_ELEMENTS_COSTLY if _COSTLY.search(input.selector) else _MOST_ELEMENTS
    if count > most:
        raise refuse(f"The page has {count} elements; the limit for this selector is {most}", "html")
    return page


def _found(input: Input) -> list[Any]:
    from selectolax.lexbor import LexborHTMLParser  # slow import

    tree = LexborHTMLParser(_tidied(input))
    if "script" not in input.selector.lower():
        tree.strip_tags(["script"])  # they would become part of the surrounding texts
    if input.operation == "first":
        first = tree.css_first(input.selector)
        return [] if first is None else [first]
    return tree.css(input.selector)


def _taken(input: Input, node: Any) -> str | None:
    if input.take == "html":
        return node.html or ""
    if input.take == "attribute":
        attributes = node.attributes
        name = (input.attribute or "").lower()
        return attributes[name] or "" if name in attributes else None
    text: str = node.text(deep=True)
    return " ".join(text.split()) if input.collapse else text


@action(
    effect=Effect.PURE,
    input=Input,
    output=Output,
    example_input={
        "html": '<ul><li class="price">12.50 <b>USD</b></li><li class="price">13 USD</li></ul>',
        "selector": "li.price",
        "operation": "all",
    },
    example_output={"found": True, "value": "12.50 USD", "values": ["12.50 USD", "13 USD"], "count": 2},
    idempotent=True,
    tags=("text", "html"),
)
async def html_extract(input: Input, ctx: Context) -> Output:
    """Normalises the page, then runs the selector."""
    return await run_in_thread(lambda stop: _extract(input, stop), len(input.html))


def _extract(input: Input, stop: threading.Event) -> Output:
    nodes = _found(input)
    if len(nodes) > input.max_matches:
        raise refuse(f"There are more than {input.max_matches} such elements (maxMatches)", "selector")
    if not nodes and input.operation == "first" and input.on_missing == "fail":
        raise refuse(f'The page has no "{input.selector}" (`onMissing: null` allows it)', "html")
    values = [_taken(input, node) for node in nodes]
    first = values[0] if values else None
    return Output(found=bool(nodes), value=first, values=values if input.operation == "all" else [], count=len(nodes))
