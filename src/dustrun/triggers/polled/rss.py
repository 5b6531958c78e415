"""Starts a run for each new item of an RSS or Atom feed.

An item's key is its `guid` or `id`, or else its link; a later change of the same item starts nothing. Runs start oldest
item first. The first poll starts nothing, unless `fireOnFirst` is true. A connector of the node adds its credential to
each request, but only to its own hosts. If the server sends `ETag` or `Last-Modified`, requests are conditional. Texts
are unchanged except that they are cut at 20,000 characters: treat their HTML as untrusted.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.core.triggers.polling.items import MOST_ITEMS, event_key, find_news
from dustrun.errors import Invalid
from dustrun.sdk import Credential, Fields, HttpResponse, Polled, PolledEvent, TriggerContext
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.polled.feeds import read_feed
from dustrun.triggers.polled.requests import (
    RequestConfig,
    check_request,
    fetch,
    known_validators,
    source_of,
    validators_of,
)


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
