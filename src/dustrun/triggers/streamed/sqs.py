"""Starts a run for each message of an SQS queue.

A message is deleted from the queue once its event is on disk, with its run; until then nobody else is shown it. One
that the queue delivers again starts no second run: it has the same id. A FIFO queue keeps its order.

`message` is the JSON of a message, else its text. Other servers that speak SQS's JSON protocol work too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from dustrun.clock import to_rfc3339
from dustrun.core.values import exact_json
from dustrun.errors import DustrunError, Invalid, Temporary
from dustrun.sdk import Finding, HttpRequest, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.fields import raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.expressions import (
    OverMessage,
    check_address,
    judge,
    not_read,
    read_message,
    too_large,
    value_of,
)
from dustrun.triggers.streamed.place import key_of

_AT_ONCE: Final = 10
_WAITS_S: Final = 20
_ANSWERS_WITHIN_S: Final = 15.0
_MOST_BYTES: Final = 24 << 20
"""Ten messages of 1 MiB, with what JSON escapes."""


class Config(TriggerConfig):
    """Which messages start a run."""

    queue_url: str = Field(
        max_length=2048,
        pattern=r"^https?://\S+$",
        description="The queue's URL, like `https://sqs.eu-west-1.amazonaws.com/123456789012/orders`.",
    )
    identity: Literal["message-id", "deduplication-id"] = Field(
        "message-id",
        description="What identifies a message: `message-id`, which the queue gives it, or `deduplication-id`, which a "
        "sender gives it in a FIFO queue, for good instead of for five minutes.",
    )
    filter: OverMessage | None = raw(
        None, max_length=4000, description="Which messages start a run, like `message.total > 100`; null: all."
    )
    key: OverMessage | None = raw(
        None,
        max_length=4000,
        description="What identifies a message instead, like `message.id`: the same again starts no second run, "
        "whoever sends it again and why.",
    )
    visibility_s: int = Field(
        60,
        ge=5,
        le=3600,
        strict=True,
        description="For how many seconds a message is shown to nobody else. It is renewed while the message is being "
        "written; when the server is killed, the message comes again after so long.",
    )
    max_bytes: int = Field(262_144, ge=1024, le=1_048_576, description="The largest message, in bytes.")


class Output(EventOutput):
    """One message."""

    message: Any = Field(description="The message: JSON, else text; null if it is larger than `maxBytes`.")
    message_id: str = Field(description="Its id in the queue.")
    attributes: dict[str, str] = Field(
        description="Its attributes that are texts or numbers, as texts, and those that are bytes, as base64."
    )
    group_id: str | None = Field(description="The group in which a FIFO queue keeps its order.")
    deduplication_id: str | None = Field(description="What its sender identifies it by, in a FIFO queue.")
    sent_at: str | None = Field(description="When it was sent, RFC 3339.")
    deliveries: int = Field(description="How often it has been delivered, this time included.")


def _request(config: Config, call: str, body: dict[str, Any], timeout_s: float) -> HttpRequest:
    url = urlsplit(config.queue_url)
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{call}"}
    sent = exact_json.dumps({"QueueUrl": config.queue_url, **body})
    endpoint = urlunsplit((url.scheme, url.netloc, "/", "", ""))
    return HttpRequest("POST", endpoint, headers, sent, timeout_s=timeout_s, max_redirects=0, safe=True)


async def _check(ctx: TriggerContext, config: Config) -> list[Finding]:
    found = await check_address(ctx, _request(config, "ReceiveMessage", {}, _ANSWERS_WITHIN_S))
    return [Finding("queueUrl", one.message, one.severity) for one in found]


async def _receive(ctx: TriggerContext, config: Config, wait_s: int, most: int) -> list[dict[str, Any]] | None:
    """The next messages; None if they are larger than is read at once. The answer is read as a stream, since it may
    come late: such a request must not take the turn of others to the same host."""
    body = {
        "MaxNumberOfMessages": most,
        "WaitTimeSeconds": wait_s,
        "VisibilityTimeout": config.visibility_s,
        "AttributeNames": ["All"],
        "MessageAttributeNames": ["All"],
    }
    read = bytearray()
    async with ctx.http.stream(_request(config, "ReceiveMessage", body, wait_s + _ANSWERS_WITHIN_S)) as incoming:
        while (piece := await incoming.read(_ANSWERS_WITHIN_S)) != b"":
            if piece is None:
                raise Temporary("The queue stopped in the middle of an answer.")
            read += piece
            if len(read) > _MOST_BYTES:
                return None
    return await run_in_thread(partial(_messages, incoming.status, bytes(read)), len(read))


def _messages(status: int, body: bytes, _: object) -> list[dict[str, Any]]:
    try:
        found = exact_json.loads(body)
    except exact_json.JsonError:
        found = None
    found = found if isinstance(found, dict) else {}
    if status != 200:
        kind = str(found.get("__type", "")).rpartition("#")[2]
        says = ": ".join(one for one in (kind, str(found.get("message") or found.get("Message") or "")) if one)
        raise Temporary(f"The queue answers with status {status}{f': {says[:300]}' if says else ''}.")
    messages = found.get("Messages") or []
    needed = {"MessageId", "ReceiptHandle", "Body"}
    if not isinstance(messages, list) or not all(isinstance(one, dict) and needed <= one.keys() for one in messages):
        raise Temporary("The answer is not one of SQS.")
    return messages


def _events(config: Config, messages: list[dict[str, Any]], now: int, _: object) -> list[PolledEvent]:
    found = []
    for one in messages:
        text, about = str(one["Body"]), one.get("Attributes") or {}
        is_large = len(text.encode()) > config.max_bytes
        message = None if is_large else read_message(text)
        counts, no_run = (True, None) if is_large else judge(config.filter, message)
        no_run = too_large(config.max_bytes) if is_large else no_run
        if not counts:
            continue
        sent_at = about.get("SentTimestamp")
        payload = {
            "message": message,
            "messageId": str(one["MessageId"]),
            "attributes": _attributes(one.get("MessageAttributes") or {}),
            "groupId": about.get("MessageGroupId"),
            "deduplicationId": about.get("MessageDeduplicationId"),
            "sentAt": None if sent_at is None else to_rfc3339(int(sent_at)),
            "deliveries": int(about.get("ApproximateReceiveCount", 1)),
        }
        key = f"id:{one['MessageId']}"
        try:
            if config.key is not None and not is_large:
                key = f"key:{key_of(value_of('key', config.key, message))}"
            elif config.key is None and config.identity == "deduplication-id":
                key = f"deduplication:{_need(about.get('MessageDeduplicationId'))}"
        except Invalid as error:  # it holds up no other
            no_run = no_run or not_read(error)
        found.append(PolledEvent(key, payload, now, no_run=no_run))
    return found


def _need(deduplication_id: str | None) -> str:
    if deduplication_id is None:
        raise Invalid("The message has no deduplication id; only those of FIFO queues have one (identity).")
    return deduplication_id


def _attributes(given: dict[str, Any]) -> dict[str, str]:
    values = {name: one.get("StringValue", one.get("BinaryValue")) for name, one in given.items()}
    return {name: str(value) for name, value in values.items() if value is not None}


async def _batch(
    ctx: TriggerContext, config: Config, call: str, messages: Sequence[dict[str, Any]], **more: int
) -> None:
    """One call for several messages. What fails in it comes again, and starts no second run."""
    entries = [
        {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"], **more} for number, one in enumerate(messages)
    ]
    answer = await ctx.http.request(_request(config, call, {"Entries": entries}, _ANSWERS_WITHIN_S))
    if answer.status != 200:
        _messages(answer.status, answer.body, None)


@asynccontextmanager
async def _held(ctx: TriggerContext, config: Config, messages: Sequence[dict[str, Any]]) -> AsyncIterator[None]:
    """Meanwhile the queue shows the messages to nobody else."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(config.visibility_s / 2)
            with contextlib.suppress(DustrunError):  # then they come again
                await _batch(
                    ctx, config, "ChangeMessageVisibilityBatch", messages, VisibilityTimeout=config.visibility_s
                )

    task = asyncio.create_task(renew())
    try:
        yield
    finally:
        task.cancel()


_EXAMPLE = {
    "message": {"orderId": "A-17", "total": "25.00"},
    "messageId": "5fea7756-0ea4-451a-a703-a558b933e274",
    "attributes": {"source": "shop"},
    "groupId": None,
    "deduplicationId": None,
    "sentAt": "2026-01-31T12:00:00.000Z",
    "deliveries": 1,
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector="aws",
    example_config={"queueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/orders", "key": "message.orderId"},
    example_output=example_output(_EXAMPLE, "sqs"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Asks for messages, each time for as long as SQS allows, and deletes them once they are on disk. The queue keeps
    the place, not the cursor."""
    wait_s, most = 0, _AT_ONCE
    while True:
        messages = await _receive(ctx, config, wait_s, most)
        if messages is None:
            if most == 1:
                raise Temporary(f"A message is larger than {_MOST_BYTES} bytes.")
            most = 1  # they come again when they are shown again
            continue
        most = _AT_ONCE
        if messages or wait_s == 0:
            size = sum(len(str(one["Body"])) for one in messages)
            events = await run_in_thread(partial(_events, config, messages, ctx.now_ms), size)

            async def delete(messages: list[dict[str, Any]] = messages) -> None:
                if messages:
                    await _batch(ctx, config, "DeleteMessageBatch", messages)

            async with _held(ctx, config, messages):
                yield Received(events, {}, acknowledge=delete)
        wait_s = _WAITS_S
