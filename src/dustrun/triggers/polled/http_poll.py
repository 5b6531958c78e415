"""Starts a run for each new item of an HTTP source, or when its answer changes.

Use it for services that have no webhooks. With `items` the answer is a list, and each item with a new `itemKey` starts
a run; without it, a run starts when `value` changes. All are expressions over `body` (JSON, else text), `status` and
`headers`, and `itemKey` over `item` too. The first poll starts nothing, unless `fireOnFirst` is true.

A connector of the node adds its credential to each request, but only to its own hosts. If the server sends `ETag` or
`Last-Modified`, requests are conditional. While the source fails, the trigger polls it less often and shows the reason
in `lastError`; failed runs have no such effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import Field, field_validator, model_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling.conditions import compile_over
from dustrun.core.triggers.polling.items import MOST_ITEMS, event_key, find_news, fingerprint
from dustrun.core.values import exact_json
from dustrun.errors import Invalid
from dustrun.records import dataclass
from dustrun.sdk import Credential, HttpResponse, Polled, PolledEvent, TriggerContext
from dustrun.sdk.fields import raw
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

_ANSWER: Final = ("body", "status", "headers")
_ITEM: Final = ("item", *_ANSWER)
_MOST_VALUE: Final = 65_536


class Config(RequestConfig):
    """What is asked for, and what of it is new."""

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
    newest_first: bool = Field(False, description="Whether the list begins with its newest item.")

    @field_validator("items", "value")
    @classmethod
    def _check_answer(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _ANSWER)
        return text

    @field_validator("item_key")
    @classmethod
    def _check_item(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _ITEM)
        return text

    @model_validator(mode="after")
    def _check_key(self) -> Config:
        if self.item_key is not None and self.items is None:
            raise ValueError("`itemKey` needs `items`, the list that it is about")
        return self


class Output(EventOutput):
    """An item, or a changed value."""

    item: Any = Field(None, description="With `items`: the new item.")
    key: str | None = Field(None, description="With `items`: the item's key.")
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


def _keyed(config: Config, answer: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The items with their keys, oldest first."""
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
        keyed.append((key if isinstance(key, str) else exact_json.dumps(key, canonical=True).decode(), item))
    return keyed[::-1] if config.newest_first else keyed


@dataclass(frozen=True, slots=True)
class _Look:
    """One answer; `before`: the cursor."""

    config: Config
    response: HttpResponse
    before: Mapping[str, Any] | None
    now: int
    credential: Credential | None


def _items(look: _Look) -> Polled:
    config, response, before, now = look.config, look.response, look.before, look.now
    keyed = _keyed(config, _answer(response))
    news = find_news(
        None if before is None else before["seen"], [key for key, _ in keyed], takes_first=config.fire_on_first
    )
    source = f"{source_of(config, look.credential)} {config.items} {config.item_key}"
    events = [
        PolledEvent(
            event_key(source, keyed[place][0]),
            {"item": keyed[place][1], "key": keyed[place][0][:1000], "seenAt": to_rfc3339(now)},
            now,
        )
        for place in news.places
    ]
    cursor = {"seen": list(news.seen), **({} if news.is_cut else validators_of(response, look.credential))}
    return Polled(events, cursor, after_ms=0 if news.is_cut else None)


def _change(look: _Look) -> Polled:
    config, response, before, now = look.config, look.response, look.before, look.now
    value = _evaluate("value", config.value, _ANSWER, **_answer(response))
    text = exact_json.dumps(value, canonical=True)
    if len(text) > _MOST_VALUE:
        raise _refuse(f"`value` has {len(text)} bytes; at most {_MOST_VALUE} are watched. Choose a part of the answer.")
    hashed = fingerprint(text.decode())
    cursor = {"value": value, "hash": hashed, **validators_of(response, look.credential)}
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
    known = known_validators(cursor, ctx.credential)
    response = await fetch(ctx, config, known, "application/json, text/*;q=0.5, */*;q=0.1")
    if response is None:
        return Polled((), cursor)
    find, look = (
        _items if config.items is not None else _change,
        _Look(config, response, cursor, ctx.now_ms, ctx.credential),
    )
    return await run_in_thread(lambda _: find(look), len(response.body))


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
