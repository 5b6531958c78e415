"""Starts a run for each new item of an RSS or Atom feed.

An item's key is its `guid` or `id`, or else its link; a later change of the same item starts nothing. Runs start oldest
item first. The first poll starts nothing, unless `fireOnFirst` is true. A connector of the node adds its credential to
each request, but only to its own hosts. If the server sends `ETag` or `Last-Modified`, requests are conditional. Texts
are unchanged except that they are cut at 20,000 characters: treat their HTML as untrusted.
"""

from __future__ import annotations

import calendar
import hashlib
import io
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.core.triggers.polling import MOST_ITEMS, event_key, find_news
from dustrun.errors import Invalid
from dustrun.sdk import Credential, Fields, HttpResponse, Polled, PolledEvent, TriggerContext
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.polled.requests import (
    RequestConfig,
    check_request,
    fetch,
    known_validators,
    source_of,
    validators_of,
)

# Reads RSS and Atom. Documents that declare entities, or are not well-formed, are refused as a whole.


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


class Config(RequestConfig):
    """The feed."""


class Item(Fields):
    """One item; what the feed does not say is null."""

    id: str | None = Field(description="Its `guid` or `id`.")
    title: str | None = Field(description="Its title.")
    link: str | None = Field(description="Its address, if it is http or https.")
    summary: str | None = Field(description="Its description.")
    content: str | None = Field(description="Its content.")
    author: str | None = Field(description="Its author.")
    published: str | None = Field(description="When it was published, RFC 3339.")
    updated: str | None = Field(description="When it was changed, RFC 3339.")
    categories: list[str] = Field(description="Its categories.")
    enclosures: list[dict[str, Any]] = Field(description="Attached files: `url` and `type`.")


class Output(EventOutput):
    """A new item."""

    item: Item = Field(description="The item.")
    feed: dict[str, Any] = Field(description="The feed's `title` and `link`.")
    seen_at: str = Field(description="When it was seen, RFC 3339.")


def _look(config: Config, response: HttpResponse, before: Any, now: int, credential: Credential | None) -> Polled:
    feed, keyed = read_feed(response.body, response.url)
    if len(keyed) > MOST_ITEMS:
        raise Invalid(f"The feed has {len(keyed)} items; at most {MOST_ITEMS} are looked at.")
    seen = None if before is None else before["seen"]
    news = find_news(seen, [key for key, _ in keyed], takes_first=config.fire_on_first)
    events = [
        PolledEvent(
            event_key(source_of(config, credential), keyed[place][0]),
            {"item": keyed[place][1], "feed": feed, "seenAt": to_rfc3339(now)},
            now,
        )
        for place in news.places
    ]
    cursor = {"seen": list(news.seen), **({} if news.is_cut else validators_of(response, credential))}
    return Polled(events, cursor, after_ms=0 if news.is_cut else None)


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    found = await _poll(ctx, config.model_copy(update={"fire_on_first": True}), None)
    return dict(found.events[-1].payload) if found.events else None


async def _poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    known = known_validators(cursor, ctx.credential)
    accepted = "application/atom+xml, application/rss+xml, application/xml;q=0.9, text/xml;q=0.8, */*;q=0.1"
    response = await fetch(ctx, config, known, accepted)
    if response is None:
        return Polled((), cursor)
    now, credential = ctx.now_ms, ctx.credential
    return await run_in_thread(lambda _: _look(config, response, cursor, now, credential), len(response.body))


_EXAMPLE = {
    "item": {
        "id": "urn:uuid:1225c695-cfb8-4ebb-aaaa-80da344efa6a",
        "title": "Release 2.4",
        "link": "https://example.com/releases/2.4",
        "summary": "Fixes two errors.",
        "content": None,
        "author": "Ann",
        "published": "2026-01-31T11:58:00.000Z",
        "updated": None,
        "categories": ["releases"],
        "enclosures": [],
    },
    "feed": {"title": "Releases", "link": "https://example.com/releases"},
    "seenAt": "2026-01-31T12:00:00.000Z",
}


@polled(
    config=Config,
    output=Output,
    check=check_request,
    recent=_recent,
    connector="http",
    example_config={"url": "https://example.com/releases.atom", "pollMs": 900000},
    example_output=example_output(_EXAMPLE, "rss"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Asks, unless the server says that nothing has changed."""
    return await _poll(ctx, config, cursor)
