"""E-mails of a real IMAP server start one run each, and stay unread."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from testkit.brokers import PASSWORD, Mailbox
from testkit.composition import Composition, composed
from trigger_host.test_happened import SAY, until

SETTINGS = {"outbound_allow": ["127.0.0.1"]}


def mail(subject: str, text: str = "hello", **headers: str) -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = (
        subject,
        "Ann <ann@example.com>",
        "a@example.com, b@example.com",
    )
    for name, value in headers.items():
        message[name] = value
    message.set_content(text)
    return message


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    mailbox.start()
    yield mailbox
    mailbox.stop()


async def publish(server: Composition, mailbox: Mailbox, password: str = PASSWORD, **config: Any) -> str:
    data = {"host": "127.0.0.1", "port": mailbox.port, "user": "orders", "password": password, "tls": "disable"}
    made = await server.owner.post("/v1/connectors", {"type": "imap", "name": "m", "data": data})
    assert made.status == 200, made.body
    connector = {"type": "imap", "id": made.data["id"]}
    root = {
        "type": "email-received",
        "connector": connector,
        "payload": {"pollMs": 1000, **config},
        "children": ["say"],
    }
    workflow = (await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}))["id"]
    published = await server.owner.post(f"/v1/workflows/{workflow}/publish")
    assert published.status == 200, published.body
    return str(workflow)


async def listens(server: Composition) -> None:
    async def holds() -> bool:
        return all(row[0] is not None for row in await server.rows(sa.select(subscriptions.c.cursor)))

    await until(holds)


async def seen(server: Composition, count: int) -> list[dict[str, Any]]:
    t = trigger_events.c

    async def holds() -> bool:
        return len(await server.rows(sa.select(t.pk))) >= count

    await until(holds)
    return [json.loads(row[0])["mail"] for row in await server.rows(sa.select(t.payload).order_by(t.pk))]


async def test_messages_start_runs_once_and_stay_unread_over_a_restart(tmp_path: Path, mailbox: Mailbox) -> None:
    await mailbox.put(mail("before"))
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, mailbox)
        await listens(server)
        await mailbox.put(mail("one"), mail("two"))
        assert [one["subject"] for one in await seen(server, 2)] == ["one", "two"]
    await mailbox.put(*(mail(f"away {n}") for n in range(12)))
    async with composed(tmp_path, **SETTINGS) as server:
        found = await seen(server, 14)
        assert [one["subject"] for one in found] == ["one", "two", *(f"away {n}" for n in range(12))]
        assert found[0] | {"size": 0} == {
            "uid": found[0]["uid"],
            "messageId": None,
            "inReplyTo": None,
            "from": "Ann <ann@example.com>",
            "to": ["a@example.com", "b@example.com"],
            "cc": [],
            "subject": "one",
            "date": None,
            "text": "hello\n",
            "html": None,
            "attachments": [],
            "size": 0,
            "isCut": False,
        }
        client = mailbox.connect()
        client.select("INBOX", readonly=True)
        assert client.search(None, "UNSEEN")[1][0].split() == client.search(None, "ALL")[1][0].split()
        client.logout()


async def test_attachments_large_messages_and_filters(tmp_path: Path, mailbox: Mailbox) -> None:
    with_files = mail("files")
    with_files.add_alternative("<p>hello</p>", subtype="html")
    with_files.add_attachment(b"%PDF-" + b"x" * 100, maintype="application", subtype="pdf", filename="a.pdf")
    with_files.add_attachment(b"y" * 2000, maintype="image", subtype="png", filename="b.png")
    async with composed(tmp_path, **SETTINGS) as server:
        config: dict[str, Any] = {"filter": 'mail.subject != "no"', "maxBytes": 20_000, "attachmentBytes": 1000}
        await publish(server, mailbox, **config)
        await listens(server)
        await mailbox.put(mail("no"), with_files, mail("large", "z" * 30_000))
        files, large = await seen(server, 2)
        assert (files["text"], files["html"]) == ("hello\n", "<p>hello</p>\n")
        assert [(one["name"], one["bytes"], one["content"] is None) for one in files["attachments"]] == [
            ("a.pdf", 105, False),
            ("b.png", 2000, True),
        ]
        assert (large["subject"], large["isCut"], large["text"]) == ("large", True, None)


async def test_a_folder_that_is_made_anew_is_a_gap_and_a_wrong_password_is_told(
    tmp_path: Path, mailbox: Mailbox
) -> None:
    async with composed(tmp_path, **SETTINGS) as server:
        await publish(server, mailbox)
        await listens(server)
        await mailbox.put(mail("one"))
        assert [one["subject"] for one in await seen(server, 1)] == ["one"]
        mailbox.stop()
        mailbox.start()

        async def has_gap() -> bool:
            return bool(await server.rows(sa.select(trigger_gaps.c.reason)))

        await until(has_gap)
        await mailbox.put(mail("two"))
        assert [one["subject"] for one in await seen(server, 2)] == ["one", "two"]
        other = await publish(server, mailbox, "pw_9876543210")

        async def error() -> str:
            query = sa.select(subscriptions.c.last_error).where(subscriptions.c.workflow_id == other)
            return str((await server.rows(query))[0][0] or "")

        async def has_error() -> bool:
            return "cannot be read" in await error()

        await until(has_error)
        assert "pw_9876543210" not in await error()
        shown = (await server.owner.get("/v1/connectors")).data["items"]
        assert [one["failure"]["what"] for one in shown if one.get("failure")] == ["refused"]
