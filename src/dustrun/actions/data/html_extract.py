r"""Extracts texts, attributes or markup from an HTML page with a CSS selector.

For pages whose site has no API. `first` returns the first element, `all` returns all of them in document order. White
space in texts is collapsed, so that they compare. For rows with several fields extract the rows as `html` and process
each one in a loop.

Pages are normalised first: every element is closed, and styles, frames, comments and the tags of drawings are removed.
Scripts are kept as text only for selectors that name `script` (JSON-LD); a `<` before a letter is written `\u003c`
there. The page's own JavaScript does not run. CSS: https://developer.mozilla.org/docs/Web/CSS/CSS_selectors
"""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Generator, Iterator
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from dustrun.actions.data.items import refuse
from dustrun.records import dataclass
from dustrun.sdk import Context, Effect, Fields, action
from dustrun.sdk.threads import run_in_thread

# Rewrites HTML so that every element is closed and nesting is bounded, before it reaches the HTML parser.
#
# A standard-conforming parser takes quadratic time and memory for some pages of a few hundred kilobytes (100,000 open
# `<div>`: 49 seconds with lexbor), which would affect every run of this server. The output parses in linear time:
# elements end where their parent ends, formatting elements do not accumulate, and no text can be parsed as a tag.


MOST_LEVELS: Final = 256
_MOST_FORMATTING: Final = 8


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VOID: Final = _words("area base br col embed hr img input link meta param source track wbr")
_FORMATTING: Final = _words("a b big code em font i nobr s small strike strong tt u")
_ROWS: Final = _words("tr td th")
_PARTS: Final = _words("thead tbody tfoot caption colgroup tr td th")
_ENDERS_OF_P: Final = _words(
    "address article aside blockquote div dl fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr main nav ol p pre "
    "section table ul"
)
# The start of an element closes these, within its scope.
_ENDS: Final = {
    **dict.fromkeys(_ENDERS_OF_P, _words("p")),
    **dict.fromkeys(("thead", "tbody", "tfoot", "caption", "colgroup"), _PARTS),
    **dict.fromkeys(("td", "th"), _words("td th")),
    **dict.fromkeys(("dt", "dd"), _words("dt dd p")),
    "tr": _ROWS,
    "li": _words("li p"),
    "option": _words("option"),
    "optgroup": _words("option optgroup"),
}
_BORDER_OF_PARTS: Final = _words("table template")
_BORDER_OF_ENDS: Final = _words("table td th caption object template")
_BORDER_OF_STARTS: Final = _BORDER_OF_ENDS | _words("ul ol dl select button")
_BORDERS_OF_END: Final = {
    **dict.fromkeys(_PARTS, _BORDER_OF_PARTS),
    **dict.fromkeys(_FORMATTING, _BORDER_OF_ENDS | frozenset(_ENDS)),  # `<b><div></b>` does not close the div
    "table": _words("template"),
}
_BLOCKS: Final = frozenset({*_ENDS, "br", "title"})

_DROPPED: Final = _words("iframe noembed noframes style xmp")  # with their content
_TEXT_ONLY: Final = _words("script textarea title")
_SEEN_THROUGH: Final = _words("frame frameset math plaintext svg")  # only their content is kept

_NAME = re.compile(r"[a-zA-Z][^\s/>]*")
_ATTRIBUTE = re.compile(
    r"""[\s/]*([^\s/>][^\s/>=]*)(?:\s*=\s*(?:"([^"]*)(?:"|\Z)|'([^']*)(?:'|\Z)|([^\s>"'][^\s>]*)?))?"""
)
_TAG_END = re.compile(r"[\s/]*>")
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9:_-]*", re.ASCII)
_ATTRIBUTE_NAME = re.compile(r"""[^\s/>="'<]+""")
_LOOKS_LIKE_TAG = re.compile(r"<(?=[a-zA-Z/!?])")
_RAW_END: Final = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in (*_DROPPED, *_TEXT_ONLY)}


class TooDeep(Exception):
    """Elements are nested deeper than `MOST_LEVELS`."""


@dataclass(frozen=True, slots=True)
class Start:
    """A start tag with its rewritten attributes."""

    name: str
    attributes: str


@dataclass(frozen=True, slots=True)
class End:
    """An end tag."""

    name: str


Token = Start | End | str


def balance(source: str, *, separate_blocks: bool = False) -> tuple[str, int]:
    """The page with every element closed, and its number of elements; raises `TooDeep`.

    `separate_blocks` adds a line break after every block, so that the texts of two cells do not run together.
    """
    writer = _Writer(separate_blocks)
    for token in _tokens(source):
        if isinstance(token, str):
            writer.text(token)
        elif isinstance(token, Start):
            writer.start(token)
        else:
            writer.end(token.name)
    return writer.finish(), writer.count


def _tokens(source: str) -> Iterator[Token]:
    """Tokenises in one pass from left to right."""
    place, size = 0, len(source)
    while place < size:
        less = source.find("<", place)
        if less < 0:
            less = size
        if less > place:
            yield source[place:less]
        if less == size:
            return
        place = less + 1
        if (tag := _NAME.match(source, place)) is not None:
            attributes, place = _attributes(source, tag.end())
            if place > size:
                return
            name = tag[0].lower()
            yield Start(name, attributes)
            if name in _RAW_END:
                place = yield from _raw(source, place, name)
        elif source.startswith("/", place):
            tag = _NAME.match(source, place + 1)
            if tag is not None:
                yield End(tag[0].lower())
            place = _behind(source, ">", place)
        elif source.startswith("!--", place):
            place = _behind(source, "-->", place + 1)
        elif source.startswith(("!", "?"), place):
            place = _behind(source, ">", place)
        else:
            yield "<"


def _behind(source: str, mark: str, place: int) -> int:
    found = source.find(mark, place)
    return len(source) if found < 0 else found + len(mark)


def _raw(source: str, place: int, name: str) -> Generator[Token, None, int]:
    """The content of a raw-text element; returns the offset of its end tag."""
    found = _RAW_END[name].search(source, place)
    end = len(source) if found is None else found.start()
    if name in _TEXT_ONLY:
        yield source[place:end]
    return end


def _attributes(source: str, place: int) -> tuple[str, int]:
    """Rewritten attributes, and the offset after the tag: beyond the end if the tag is not closed."""
    found: dict[str, str] = {}
    while (end := _TAG_END.match(source, place)) is None:
        attribute = _ATTRIBUTE.match(source, place)
        if attribute is None or attribute.end() >= len(source):
            return "", len(source) + 1
        place = attribute.end()
        value = next((part for part in attribute.groups()[1:] if part is not None), "")
        if _ATTRIBUTE_NAME.fullmatch(attribute[1]):
            found.setdefault(attribute[1].lower(), value)
    written = (f' {name}="{html.escape(html.unescape(value))}"' for name, value in found.items())
    return "".join(written), end.end()


class _Writer:
    def __init__(self, separate_blocks: bool) -> None:
        self.count = 0
        self._separate_blocks = separate_blocks
        self._open: list[str] = []
        self._formatting = 0
        self._written: list[str] = []

    def text(self, text: str) -> None:
        """Adds text to the open element."""
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self._written.append(_LOOKS_LIKE_TAG.sub(r"\\u003c", text))
        else:
            self._written.append(html.escape(html.unescape(text), quote=False))

    def start(self, tag: Start) -> None:
        """Opens an element, after closing those that it implicitly ends."""
        name = tag.name
        if name in _SEEN_THROUGH or name in _DROPPED or not _PLAIN_NAME.fullmatch(name):
            return
        self._close_ended(name)
        if name in _FORMATTING and self._formatting >= _MOST_FORMATTING:
            return
        self.count += 1
        self._written.append(f"<{name}{tag.attributes}>")
        if name in _VOID:
            self._break(name)
            return
        if len(self._open) >= MOST_LEVELS:
            raise TooDeep
        self._open.append(name)
        self._formatting += name in _FORMATTING

    def end(self, name: str) -> None:
        """Closes the nearest element of this name and all within it, unless it is outside the current scope."""
        border = _BORDERS_OF_END.get(name, _BORDER_OF_ENDS)
        for place in range(len(self._open) - 1, -1, -1):
            if self._open[place] == name:
                self._close_to(place)
                return
            if self._open[place] in border:
                return

    def finish(self) -> str:
        """Closes all open elements and returns the page."""
        self._close_to(0)
        return "".join(self._written)

    def _close_ended(self, name: str) -> None:
        ended = _ENDS.get(name, frozenset())
        border = _BORDER_OF_PARTS if name in _PARTS else _BORDER_OF_STARTS
        last = None
        for place in range(len(self._open) - 1, -1, -1):
            if self._open[place] in ended:
                last = place
            elif self._open[place] in border:
                break
        if last is not None:
            self._close_to(last)

    def _close_to(self, place: int) -> None:
        for name in reversed(self._open[place:]):
            self._written.append(f"</{name}>")
            self._formatting -= name in _FORMATTING
            self._break(name)
        del self._open[place:]

    def _break(self, name: str) -> None:
        if self._separate_blocks and name in _BLOCKS:
            self._written.append("\n")


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
