"""Rewrites HTML so that every element is closed and nesting is bounded, before it reaches the HTML parser.

A standard-conforming parser takes quadratic time and memory for some pages of a few hundred kilobytes (100,000 open
`<div>`: 49 seconds with lexbor), which would affect every run of this server. The output parses in linear time:
elements end where their parent ends, formatting elements do not accumulate, and no text can be parsed as a tag.
"""

from __future__ import annotations

import html
import re
from collections.abc import Generator, Iterator
from typing import Final

from dustrun.records import dataclass

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
