"""What the action hands over; deliveries are in `tests/outbound/test_notifier.py`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from dustrun.actions.messages.notify import notify
from dustrun.connectors.apprise import apprise
from dustrun.errors import Invalid
from dustrun.sdk import Connection, Notice
from dustrun.sdk.testing import FakeContext, perform

URL = "json://user:hunter2@example.com"


def context() -> FakeContext:
    return FakeContext(connection=Connection("conn_1", "apprise", "ops", apprise.data(url=URL)))


async def test_message_goes_to_the_connectors_service() -> None:
    ctx = context()
    payload = {
        "title": "T",
        "body": "B {{$trigger.body.n}}",
        "format": "markdown",
        "kind": "failure",
        "timeoutMs": 5000,
    }
    result = await perform(notify, payload, ctx, {"$trigger": {"body": {"n": 1}}})
    assert result == {"service": "json"}
    assert ctx.notify.sent == [(URL, Notice("B 1", "T", "markdown", "failure", 5.0))]


async def test_it_needs_a_connector() -> None:
    with pytest.raises(Invalid, match="no connector"):
        await perform(notify, {"body": "B"})


@pytest.mark.parametrize(
    "change",
    [{"body": ""}, {"body": "x" * 32_769}, {"format": "pdf"}, {"kind": "loud"}, {"timeoutMs": 1}, {"url": URL}],
)
def test_bad_input_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        notify.input.model_validate({"body": "B", **change})


def test_preview_shows_the_message_and_no_address() -> None:
    assert notify.preview is not None
    shown = notify.preview(notify.input.model_validate({"body": "B", "title": "T"}))
    assert shown == {"body": "B", "title": "T", "format": "text", "kind": "info"}
    assert not notify.idempotent
