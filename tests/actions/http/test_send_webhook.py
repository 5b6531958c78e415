"""The action against real servers that verify with another implementation of the standard."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from actions.http.running import KEY, FakeContext
from dustrun.actions.http.send_webhook import send_webhook
from dustrun.connectors.webhook_secret import webhook_secret
from dustrun.core.values.exact_json import loads
from dustrun.errors import Invalid, Permanent, Temporary, Uncertain
from dustrun.sdk import Connection, Effect
from outbound.loopback import Seen, client, json_answer, read_head, reset, serving, serving_raw

SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, whole").decode()
OTHER = "whsec_" + base64.b64encode(b"quite another key of that length").decode()


def _input(**payload: Any) -> Any:
    return send_webhook.input.model_validate({"url": "https://hooks.example.com/", "secret": SECRET, **payload})


@asynccontextmanager
async def sending(connection: Connection | None = None) -> AsyncIterator[Any]:
    """Runs the action with payloads, at the present time: the witness checks how old a message is."""
    async with client() as http:
        ctx = FakeContext(http, now_ms=time.time_ns() // 1_000_000, connection=connection)

        async def send(**payload: Any) -> dict[str, Any]:
            output = await send_webhook.run(_input(**payload), ctx)
            result: dict[str, Any] = output.model_dump(by_alias=True)
            return result

        yield send


async def test_message_is_verified_by_another_implementation() -> None:
    async with serving(lambda _: json_answer('{"ok": true}')) as server, sending() as send:
        result = await send(url=server.url, type="order.paid", data={"amount": "12.50", "n": 10**30})
        seen = server.seen[0]
        Webhook(SECRET).verify(seen.body, seen.headers)
        document = loads(seen.body)
        assert document == {
            "type": "order.paid",
            "timestamp": result["timestamp"],
            "data": {"amount": "12.50", "n": 10**30},
        }
        assert (seen.method, seen.headers["content-type"]) == ("POST", "application/json")
        assert seen.headers["webhook-id"] == result["id"] == KEY
        assert (result["status"], result["body"]) == (200, {"ok": True})


async def test_any_change_breaks_the_signature() -> None:
    async with serving(lambda _: json_answer("{}")) as server, sending() as send:
        await send(url=server.url, data={"a": 1})
    seen = server.seen[0]
    assert Webhook(SECRET).verify(seen.body, seen.headers) == {"a": 1}
    for secret, body, changed in (
        (OTHER, seen.body, {}),
        (SECRET, seen.body + b" ", {}),
        (SECRET, seen.body, {"webhook-id": "dustrun-4567"}),
        (SECRET, seen.body, {"webhook-timestamp": str(int(seen.headers["webhook-timestamp"]) + 1)}),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, {**seen.headers, **changed})


async def test_id_stays_the_same_over_attempts() -> None:
    async with serving(lambda _: json_answer("{}")) as server, sending() as send:
        await send(url=server.url, data=1)
        await send(url=server.url, data=1)
    assert {seen.headers["webhook-id"] for seen in server.seen} == {KEY}
    assert send_webhook.idempotent
    assert send_webhook.effect is Effect.WRITE


@pytest.mark.parametrize(
    ("status", "error"),
    [(302, Permanent), (400, Permanent), (410, Permanent), (408, Temporary), (429, Temporary), (500, Temporary)],
)
async def test_what_an_answer_comes_to(status: int, error: type[Exception]) -> None:
    def answer(_seen: Seen) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/elsewhere"})

    async with serving(answer) as server, sending() as send:
        with pytest.raises(error, match=str(status)):
            await send(url=server.url)
        assert len(server.seen) == 1


async def test_no_answer_is_uncertain_and_a_private_address_is_refused() -> None:
    async def drop(reader: Any, writer: Any) -> None:
        await read_head(reader)
        reset(writer)

    async with serving_raw(drop) as url, sending() as send:
        with pytest.raises(Uncertain):
            await send(url=url)
        with pytest.raises(Invalid, match="may not be reached"):
            await send(url="http://127.0.0.2/")


async def test_secret_comes_from_the_connector() -> None:
    connection = Connection("conn_1", "webhook-secret", "receiver", webhook_secret.data(secret=OTHER))
    async with serving(lambda _: json_answer("{}")) as server, sending(connection) as send:
        await send(url=server.url, secret=None)
        await send(url=server.url)
    for secret, seen in zip((OTHER, SECRET), server.seen, strict=True):
        Webhook(secret).verify(seen.body, seen.headers)


async def test_message_without_a_secret_is_not_sent() -> None:
    async with serving(lambda _: json_answer("{}")) as server, sending() as send:
        with pytest.raises(Invalid, match="no connector"):
            await send(url=server.url, secret=None)
        assert server.seen == []


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"secret": "not-a-secret"}, "must be whsec_"),
        ({"secret": ""}, "must be whsec_"),
        ({"headers": {"Webhook-Signature": "v1,x"}}, "is set by this action"),
        ({"url": ""}, "at least 1 character"),
        ({"timeoutMs": 0}, "greater than or equal to 1"),
        ({"type": "x" * 129}, "at most 128"),
    ],
)
def test_input_that_cannot_be_meant_is_refused(payload: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        _input(**payload)


def test_preview_shows_the_message_without_signature_and_secret() -> None:
    shown = send_webhook.preview(_input(type="a.b", data={"x": 1}, headers={"X-Api-Key": "k"}))  # type: ignore[misc]
    assert shown["body"] == {"type": "a.b", "data": {"x": 1}}
    assert shown["headers"]["webhook-signature"] == shown["headers"]["X-Api-Key"] == "***"
    assert SECRET not in str(shown)
