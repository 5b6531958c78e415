"""Writes values into paths, queries, headers, cookies and forms, as `style`, `explode` and `collectionFormat` say.

The tables of the OpenAPI specification are the tests of this file. What is undefined there is written so: `null` leaves
a name or an item out, an empty list or object writes nothing, and lists within a `deepObject` get indices (`a[b][0]=c`,
as Stripe, PHP and Rails read them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from dustrun.core.values.exact_json import dumps_text, plain_digits
from dustrun.records import dataclass

STYLES: Final = {
    "path": ("simple", "label", "matrix"),
    "query": ("form", "spaceDelimited", "pipeDelimited", "tabDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
"""By place; the first is the default. `tabDelimited` is the `tsv` of version 2.0."""
COLLECTIONS: Final = {
    "csv": (None, False),
    "multi": ("form", True),
    "ssv": ("spaceDelimited", False),
    "tsv": ("tabDelimited", False),
    "pipes": ("pipeDelimited", False),
}
"""Style, None for the default of the place, and `explode`, by the `collectionFormat` of version 2.0."""
_DELIMITERS: Final = {"form": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C", "tabDelimited": "%09"}
_RESERVED: Final = ":/?@!$'()*,;"
"""Characters that `allowReserved` leaves as they are; the other reserved ones would end a value."""
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a parameter is written. `as_json`: as one JSON text, by its `content`."""

    name: str = "form"
    explode: bool = True
    reserved: bool = False
    as_json: bool = False


def text_of(value: Any) -> str:
    """A value as text: booleans in lower case, numbers in plain digits, lists and objects as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return plain_digits(value)
    return str(value) if isinstance(value, int) else dumps_text(value)


def query_pairs(name: str, value: Any, style: Style) -> Iterator[Pair]:
    """The parts of a query, each with name and value percent-encoded."""
    safe, key = (_RESERVED if style.reserved else ""), quote(name, safe="")
    if value is None:
        return
    if style.as_json:
        yield key, quote(dumps_text(value), safe=safe)
    elif style.name == "deepObject" and isinstance(value, dict | list):
        yield from ((quote(inner, safe=""), quote(text, safe=safe)) for inner, text in nested(name, value))
    elif isinstance(value, dict | list) and style.explode:
        yield from _exploded(key, value, safe)
    elif isinstance(value, dict | list):
        texts = [quote(one, safe=safe.replace(",", "")) for one in _flat(value)]
        if texts:
            yield key, _DELIMITERS.get(style.name, ",").join(texts)
    else:
        yield key, quote(text_of(value), safe=safe)


def _exploded(key: str, value: Mapping[str, Any] | list[Any], safe: str) -> Iterator[Pair]:
    if isinstance(value, list):
        yield from ((key, quote(text_of(one), safe=safe)) for one in value if one is not None)
    else:
        given = ((quote(inner, safe=""), one) for inner, one in value.items() if one is not None)
        yield from ((inner, quote(text_of(one), safe=safe)) for inner, one in given)


def nested(name: str, value: Any) -> Iterator[Pair]:
    """A value as `name[a][b]=c`, not yet encoded."""
    if value is None:
        return
    if not isinstance(value, dict | list):
        yield name, text_of(value)
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in entries:
        yield from nested(f"{name}[{key}]", inner)


def usual_style(value: Any) -> Style:
    """How a value is written in a form whose document does not say it."""
    is_plain = isinstance(value, list) and not any(isinstance(one, dict | list) for one in value)
    return Style(explode=True, as_json=isinstance(value, dict | list) and not is_plain)


def form_pairs(name: str, value: Any, style: Style | None) -> Iterator[Pair]:
    """The fields of a form, not yet encoded. Without a style, lists of plain values repeat the name and anything else
    that is no plain value is one JSON text."""
    if value is None:
        return
    style = style or usual_style(value)
    if style.as_json:
        yield name, dumps_text(value)
    elif not isinstance(value, dict | list):
        yield name, text_of(value)
    elif style.name == "deepObject":
        yield from nested(name, value)
    elif not style.explode:
        yield (
            name,
            {"spaceDelimited": " ", "pipeDelimited": "|", "tabDelimited": "\t"}.get(style.name, ",").join(_flat(value)),
        )
    elif isinstance(value, list):
        yield from ((name, text_of(one)) for one in value if one is not None)
    else:
        yield from ((inner, text_of(one)) for inner, one in value.items() if one is not None)


def path_text(name: str, value: Any, style: Style) -> str:
    """A part of a path, percent-encoded. `reserved`: slashes stay, as in the template `{+name}`."""
    safe = "/" if style.reserved else ""
    if style.as_json:
        return quote(dumps_text(value), safe=safe)
    label = quote(name, safe="")
    if style.name == "matrix":
        return _matrix(label, value, style.explode, safe)
    begin, between = (".", ".") if style.name == "label" else ("", ",")
    if isinstance(value, dict) and style.explode:
        found = [f"{quote(key, safe='')}={quote(text, safe=safe)}" for key, text in _entries(value)]
        return begin + between.join(found)
    texts = _flat(value) if isinstance(value, dict | list) else [text_of(value)]
    separator = between if style.explode or not begin else ","
    return begin + separator.join(quote(one, safe=safe) for one in texts)


def _matrix(label: str, value: Any, explode: bool, safe: str) -> str:
    if isinstance(value, dict) and explode:
        return "".join(f";{quote(key, safe='')}={quote(text, safe=safe)}" for key, text in _entries(value))
    if isinstance(value, list) and explode:
        return "".join(f";{label}={quote(one, safe=safe)}" for one in _flat(value))
    texts = _flat(value) if isinstance(value, dict | list) else [text_of(value)]
    joined = ",".join(quote(one, safe=safe) for one in texts)
    return f";{label}={joined}" if joined else f";{label}"


def header_text(value: Any, style: Style) -> str:
    """The value of a header."""
    if style.as_json:
        return dumps_text(value)
    if isinstance(value, dict) and style.explode:
        return ",".join(f"{key}={text}" for key, text in _entries(value))
    return ",".join(_flat(value)) if isinstance(value, dict | list) else text_of(value)


def _entries(value: Mapping[str, Any]) -> Iterator[Pair]:
    return ((key, text_of(one)) for key, one in value.items() if one is not None)


def _flat(value: Mapping[str, Any] | list[Any]) -> list[str]:
    """The items of a list, or the names and values of an object in turn."""
    if isinstance(value, list):
        return [text_of(one) for one in value if one is not None]
    return [part for entry in _entries(value) for part in entry]
