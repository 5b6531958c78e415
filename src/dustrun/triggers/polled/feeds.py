"""Reads RSS and Atom. Documents that declare entities, or are not well-formed, are refused as a whole."""

from __future__ import annotations

import calendar
import hashlib
import io
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from dustrun.clock import to_rfc3339
from dustrun.errors import Invalid

_MOST_CHARS: Final = 20_000
_MOST_SHORT: Final = 2_000
_MOST_LISTED: Final = 50


def read_feed(text: bytes, base: str) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The feed's title and link, and its items with their keys, oldest first. `base`: its address, for relative links.
    Raises `Invalid`."""
    _check(text)
    import feedparser  # type: ignore[import-untyped]  # slow import

    # a stream: it would take a text for an address or a file's name
    found = feedparser.parse(io.BytesIO(text), resolve_relative_uris=False, sanitize_html=False)
    if not found.get("version"):
        raise Invalid("The answer is not an RSS or Atom feed.")
    items = [_item(entry, base) for entry in found.entries]
    if all(item["published"] or item["updated"] for item in items):
        dated = sorted(enumerate(items), key=lambda one: (one[1]["published"] or one[1]["updated"], -one[0]))
        items = [item for _, item in dated]
    else:
        items.reverse()  # feeds begin with the newest
    title, link = _text(found.feed.get("title"), _MOST_SHORT), _link(found.feed.get("link"), base)
    return {"title": title, "link": link}, [(_key(item), item) for item in items]


def _check(text: bytes) -> None:
    from xml.etree.ElementTree import ParseError  # slow import

    from defusedxml import DefusedXmlException, ElementTree  # type: ignore[import-untyped]

    try:
        ElementTree.fromstring(text, forbid_entities=True, forbid_external=True)
    except DefusedXmlException:
        raise Invalid("The feed declares XML entities, which are not accepted.") from None
    except (ParseError, ValueError, LookupError) as error:
        raise Invalid(f"The answer is not well-formed XML: {error}") from None


def _item(entry: dict[str, Any], base: str) -> dict[str, Any]:
    contents = [one for one in entry.get("content", ()) if one.get("value")]
    return {
        "id": _text(entry.get("id"), _MOST_SHORT),
        "title": _text(entry.get("title"), _MOST_SHORT),
        "link": _link(entry.get("link"), base),
        "summary": _text(entry.get("summary"), _MOST_CHARS),
        "content": _text(contents[0]["value"], _MOST_CHARS) if contents else None,
        "author": _text(entry.get("author"), _MOST_SHORT),
        "published": _time(entry.get("published_parsed")),
        "updated": _time(dict.get(entry, "updated_parsed")),  # its own `get` answers with the other time
        "categories": [_text(one.get("term"), 200) for one in entry.get("tags", ())[:_MOST_LISTED] if one.get("term")],
        "enclosures": [
            {"url": _link(one.get("href"), base), "type": _text(one.get("type"), 200)}
            for one in entry.get("enclosures", ())[:_MOST_LISTED]
        ],
    }


def _key(item: Mapping[str, Any]) -> str:
    named = item["id"] or item["link"]
    if named:
        return str(named)
    content = "\n".join(str(item[name]) for name in ("title", "summary", "published"))
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def _text(value: Any, most: int) -> str | None:
    return value[:most] if isinstance(value, str) and value else None


def _link(value: Any, base: str) -> str | None:
    """An absolute address of the web; None for anything else, such as a script."""
    if not isinstance(value, str) or not value:
        return None
    try:
        absolute = urljoin(base, value.strip())
        return absolute[:_MOST_SHORT] if urlsplit(absolute).scheme in ("http", "https") else None
    except ValueError:
        return None


def _time(value: Any) -> str | None:
    try:
        return to_rfc3339(calendar.timegm(value) * 1000) if value is not None else None
    except (ValueError, OverflowError, TypeError):
        return None
