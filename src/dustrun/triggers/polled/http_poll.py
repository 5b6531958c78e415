"""Starts a run for each new item of an HTTP source, or when its answer changes.

Use it for services that have no webhooks. With `items` the answer is a list, and each item with a new `itemKey` starts
a run; without it, a run starts when `value` changes. All are expressions over `body` (JSON, else text), `status` and
`headers`, and `itemKey` over `item` too. The first poll starts nothing, unless `fireOnFirst` is true. With `changeOf` a
known item starts another run when that part of it changes.

`method` and `body` ask sources that want a POST, such as GraphQL and JSON-RPC. `nextPage` reads lists of several pages.

A connector of the node adds its credential to each request, but only to its own hosts. If the server sends `ETag` or
`Last-Modified`, requests are conditional. While the source fails, the trigger polls it less often and shows the reason
in `lastError`; failed runs have no such effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

from pydantic import Field, field_validator, model_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import MOST_EVENTS, MOST_ITEMS, compile_over, event_key, find_news, fingerprint
from dustrun.core.values import exact_json
from dustrun.errors import Invalid
from dustrun.records import dataclass
from dustrun.sdk import Credential, HttpRequest, HttpResponse, Polled, PolledEvent, TriggerContext
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import polled
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.polled.requests import (
    JSON,
    MAX_BYTES,
    RequestConfig,
    ask,
    check_request,
    fetch,
    known_validators,
    request_of,
    source_of,
    validators_of,
)

_ANSWER: Final = ("body", "status", "headers")
_ITEM: Final = ("item", *_ANSWER)
_PAGE: Final = ("request", *_ANSWER)
_ACCEPT: Final = "application/json, text/*;q=0.5, */*;q=0.1"
_MOST_VALUE: Final = 65_536


class Config(RequestConfig):
    """The request, and what of its answer is new."""

    items: str | None = raw(
        None, max_length=4000, description="The list of items, like `body.orders`; null: compare `value` instead."
    )
    item_key: str | None = raw(
        None,
        max_length=4000,
        description="Key that identifies an item, like `item.id`; null: its whole content.",
    )
    value: str = raw(
        "body",
        max_length=4000,
        description="Without `items`: the value whose change starts a run, like `body.status`; at most 64 KiB.",
    )
    change_of: str | None = raw(
        None,
        max_length=4000,
        description="With `itemKey`: the part of an item whose change starts another run, like `item.status`; `item`: "
        "any change. Null: each item starts one run.",
    )
    method: Literal["GET", "POST"] = Field("GET", description="POST for sources that are asked with a body.")
    body: Any = Field(
        None,
        description="With POST: what is sent. A text is sent as it is, anything else as JSON. It must not change "
        "anything at the source: it is sent again and again.",
    )
    next_page: str | None = raw(
        None,
        max_length=4000,
        description="With `items`: where the next page is, over `body`, `status`, `headers` and `request` (the body "
        "sent): an address of the same host, an object with fields that replace those of the body, or null at the end.",
    )
    max_pages: int = Field(10, ge=1, le=10, strict=True, description="With `nextPage`: how many pages are read.")
    newest_first: bool = Field(False, description="Whether the list begins with its newest item.")

    @field_validator("items", "value")
    @classmethod
    def _check_answer(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _ANSWER)
        return text

    @field_validator("next_page")
    @classmethod
    def _check_page(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _PAGE)
        return text

    @field_validator("item_key", "change_of")
    @classmethod
    def _check_item(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _ITEM)
        return text

    @model_validator(mode="after")
    def _check_key(self) -> Config:
        if self.item_key is not None and self.items is None:
            raise ValueError("`itemKey` needs `items`, the list that it is about")
        if self.change_of is not None and self.item_key is None:
            raise ValueError("`changeOf` needs `itemKey`, which says which item it is")
        if self.next_page is not None and self.items is None:
            raise ValueError("`nextPage` needs `items`, the list that goes on there")
        if self.body is not None and self.method != "POST":
            raise ValueError("`body` needs `method` POST")
        if len(exact_json.dumps(self.body)) > _MOST_VALUE:
            raise ValueError(f"`body` has over {_MOST_VALUE} bytes")
        return self


class Output(EventOutput):
    """An item, or a changed value."""

    item: Any = Field(None, description="With `items`: the new item.")
    key: str | None = Field(None, description="With `items`: the item's key.")
    change: Literal["added", "changed"] | None = Field(None, description="With `changeOf`: what happened to the item.")
    value: Any = Field(None, description="Without `items`: the value.")
    previous: Any = Field(None, description="Without `items`: the previous value; null at the first poll.")
    seen_at: str = Field(description="When it was seen, RFC 3339.")


def _refuse(message: str) -> Invalid:
    return Invalid(f"{message[:1].upper()}{message[1:]}")


def _evaluate(name: str, text: str, names: tuple[str, ...], **values: Any) -> Any:
    try:
        return compile_over(text, names).value(**values)
    except ExpressionError as error:
        raise _refuse(f"`{name}` does not fit the answer: {error}") from None


def _answer(answer: HttpResponse) -> dict[str, Any]:
    try:
        body = exact_json.loads(answer.body)
    except exact_json.JsonError:
        body = answer.body.decode("utf-8", "replace")
    return {"body": body, "status": answer.status, "headers": dict(answer.headers)}


def _keyed(config: Config, answers: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any, str]]:
    """The items of all pages with their keys and what of them may change, oldest first."""
    keyed = [one for answer in answers for one in _keyed_of(config, answer)]
    if len(keyed) > MOST_ITEMS:
        raise _refuse(f"the list has {len(keyed)} items; at most {MOST_ITEMS} are looked at. Ask for fewer.")
    return keyed[::-1] if config.newest_first else keyed


def _keyed_of(config: Config, answer: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    assert config.items is not None
    found = _evaluate("items", config.items, _ANSWER, **answer)
    if not isinstance(found, list):
        raise _refuse(f"`items` is not a list in the answer, but {type(found).__name__}.")
    if len(found) > MOST_ITEMS:
        raise _refuse(f"the list has {len(found)} items; at most {MOST_ITEMS} are looked at. Ask for fewer.")
    keyed = []
    for place, item in enumerate(found):
        key = item
        if config.item_key is not None:
            key = _evaluate("itemKey", config.item_key, _ITEM, item=item, **answer)
            if key is None or key == "":
                raise _refuse(f"`itemKey` is empty for item {place} of the list.")
        part = None
        if config.change_of is not None:
            part = _evaluate("changeOf", config.change_of, _ITEM, item=item, **answer)
        named = key if isinstance(key, str) else exact_json.dumps(key, canonical=True).decode()
        keyed.append((named, item, fingerprint(exact_json.dumps(part, canonical=True).decode())))
    return keyed


@dataclass(frozen=True, slots=True)
class _Look:
    """The answers, one a page; `before`: the cursor."""

    config: Config
    pages: Sequence[HttpResponse]
    before: Mapping[str, Any] | None
    now: int
    credential: Credential | None


def _items(look: _Look) -> Polled:
    config, before, now = look.config, look.before, look.now
    keyed = _keyed(config, [_answer(page) for page in look.pages])
    seen = None if before is None else before["seen"]
    news = find_news(seen, [key for key, *_ in keyed], takes_first=config.fire_on_first)
    source = f"{source_of(config, look.credential)} {config.items} {config.item_key}"
    events = [
        PolledEvent(
            event_key(source, keyed[place][0]),
            _item_payload(keyed[place], now, {} if config.change_of is None else {"change": "added"}),
            now,
        )
        for place in news.places
    ]
    cursor: dict[str, Any] = {"seen": list(news.seen), **_validators(look, is_cut=news.is_cut)}
    if config.change_of is not None:
        taken = {fingerprint(keyed[place][0]) for place in news.places}
        changed, cursor["parts"] = _changes(keyed, before, set(news.seen), taken)
        events += [
            PolledEvent(f"{event_key(source, one[0])}@{now}", _item_payload(one, now, {"change": "changed"}), now)
            for one in changed
        ]
    return Polled(events, cursor, after_ms=0 if news.is_cut else None)


def _validators(look: _Look, *, is_cut: bool) -> dict[str, Any]:
    """What lets the source say that nothing has changed; of several pages, or while items are left, nothing does."""
    is_whole = not is_cut and len(look.pages) == 1 and look.config.next_page is None
    return validators_of(look.pages[0], look.credential) if is_whole and look.config.method == "GET" else {}


def _item_payload(one: tuple[str, Any, str], now: int, more: Mapping[str, Any]) -> dict[str, Any]:
    return {"item": one[1], "key": one[0][:1000], "seenAt": to_rfc3339(now), **more}


def _changes(
    keyed: Sequence[tuple[str, Any, str]], before: Mapping[str, Any] | None, seen: set[str], taken: set[str]
) -> tuple[list[tuple[str, Any, str]], dict[str, str]]:
    """The known items whose part is another now, and the parts of all that are known; `taken`: told as new. Of items
    that the list no longer shows, the part is remembered as long as the key is."""
    parts = dict(before.get("parts", {})) if before is not None else {}
    changed: list[tuple[str, Any, str]] = []
    for one in keyed:
        name = fingerprint(one[0])
        if name not in seen:
            continue  # it is new, and left for the next look
        if name not in taken and parts.get(name, one[2]) != one[2]:
            if len(changed) == MOST_EVENTS:
                continue
            changed.append(one)
        parts[name] = one[2]
    return changed, {name: part for name, part in parts.items() if name in seen}


def _change(look: _Look) -> Polled:
    config, (response, *_), before, now = look.config, look.pages, look.before, look.now
    value = _evaluate("value", config.value, _ANSWER, **_answer(response))
    text = exact_json.dumps(value, canonical=True)
    if len(text) > _MOST_VALUE:
        raise _refuse(f"`value` has {len(text)} bytes; at most {_MOST_VALUE} are watched. Choose a part of the answer.")
    hashed = fingerprint(text.decode())
    cursor = {"value": value, "hash": hashed, **_validators(look, is_cut=False)}
    if before["hash"] == hashed if before is not None else not config.fire_on_first:
        return Polled((), cursor)
    previous = None if before is None else before["value"]
    return Polled(
        [PolledEvent(str(now), {"value": value, "previous": previous, "seenAt": to_rfc3339(now)}, now)], cursor
    )


async def _recent(ctx: TriggerContext, config: Config) -> dict[str, Any] | None:
    found = await _poll(ctx, config.model_copy(update={"fire_on_first": True}), None)
    return dict(found.events[-1].payload) if found.events else None


async def _poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    pages = await _pages(ctx, config, cursor)
    if not pages:
        return Polled((), cursor)
    find, look = (
        _items if config.items is not None else _change,
        _Look(config, pages, cursor, ctx.now_ms, ctx.credential),
    )
    return await run_in_thread(lambda _: find(look), sum(len(page.body) for page in pages))


async def _pages(ctx: TriggerContext, config: Config, cursor: Any) -> list[HttpResponse]:
    """The answers; none if nothing has changed."""
    if config.method == "GET" and config.next_page is None:
        response = await fetch(ctx, config, known_validators(cursor, ctx.credential), _ACCEPT)
        return [] if response is None else [response]
    pages: list[HttpResponse] = []
    url, body = config.url, config.body
    while len(pages) < config.max_pages:
        response = await ask(ctx, _page_request(config, url, body))
        assert response is not None, "the request is not conditional"
        pages.append(response)
        if config.next_page is None or sum(len(page.body) for page in pages) > MAX_BYTES:
            break
        following = await run_in_thread(partial(_next_page, config, response, body), len(response.body))
        if following is None or following == "":
            break
        url, body = _turned(url, body, following)
    return pages


def _page_request(config: Config, url: str, body: Any) -> HttpRequest:
    if config.method == "GET":
        return request_of(config, _ACCEPT, url=url)
    is_text = isinstance(body, str)
    sent = b"" if body is None else body.encode() if is_text else exact_json.dumps(body)
    named = {name.lower() for name in config.headers}
    kind = {} if "content-type" in named else {"Content-Type": "text/plain; charset=utf-8" if is_text else JSON}
    return request_of(
        config, _ACCEPT, url=url, method="POST", body=sent, headers={"Accept": _ACCEPT, **kind, **config.headers}
    )


def _next_page(config: Config, response: HttpResponse, body: Any, _: Any = None) -> Any:
    assert config.next_page is not None
    return _evaluate("nextPage", config.next_page, _PAGE, request=body, **_answer(response))


def _turned(url: str, body: Any, following: Any) -> tuple[str, Any]:
    """Address and body of the next page. A credential, and what the list is trusted for, stay with one host."""
    if isinstance(following, str):
        found = urljoin(url, following)
        if urlsplit(found)[:2] != urlsplit(url)[:2]:
            raise _refuse(f"`nextPage` leads to another host: {found[:200]}")
        return found, body
    if isinstance(following, dict) and isinstance(body, dict):
        return url, {**body, **following}
    raise _refuse("`nextPage` must be an address, null, or, for a body that is an object, an object.")


_EXAMPLE = {"item": {"id": "A-17", "total": "25.00"}, "key": "A-17", "seenAt": "2026-01-31T12:00:00.000Z"}


@polled(
    config=Config,
    output=Output,
    check=check_request,
    recent=_recent,
    connector="http",
    example_config={
        "url": "https://shop.example.com/api/orders?sort=newest",
        "items": "body.orders",
        "itemKey": "item.id",
        "newestFirst": True,
        "pollMs": 60000,
    },
    example_output=example_output(_EXAMPLE, "http-poll"),
)
async def poll(ctx: TriggerContext, config: Config, cursor: Any) -> Polled:
    """Asks, unless the source says that nothing has changed."""
    return await _poll(ctx, config, cursor)
