"""E-mails of a real IMAP server start one run each, and stay unread."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun.catalog import load
from dustrun.connectors.imap import Data
from dustrun.sdk.context import NoConnection
from dustrun.storage.db.trigger_tables import subscriptions, trigger_events, trigger_gaps
from dustrun.triggers.streamed.email_received import Config
from echoing import echoing
from testkit.brokers import PASSWORD, Mailbox
from testkit.certificates import self_signed
from testkit.composition import Composition, composed
from trigger_host.test_happened import SAY, until
from trigger_host.test_mqtt import Context

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


class OAuthFront:
    """Before a mailbox: takes only logins by a mechanism of OAuth 2, with tokens of `good`."""

    def __init__(self, mailbox: Mailbox, good: set[str]) -> None:
        self._mailbox, self.good, self.mechanism = mailbox, good, "XOAUTH2"
        self.port, self.said = 0, list[tuple[str, str]]()
        """`said`: the mechanisms and tokens of all logins."""
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listens on a port of its own."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._serving)

    def cut(self) -> None:
        """Ends every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        from_mailbox, to_mailbox = await asyncio.open_connection("127.0.0.1", self._mailbox.port)
        self._writers |= {writer, to_mailbox}
        ask = asyncio.create_task(self._ask(reader, writer, to_mailbox))
        answer = asyncio.create_task(self._answer(from_mailbox, writer))
        await asyncio.wait({ask, answer}, return_when=asyncio.FIRST_COMPLETED)  # the mailbox ends one now and then
        for one in (writer, to_mailbox):
            one.transport.abort()
            with contextlib.suppress(ConnectionError):
                await one.wait_closed()
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(ask, answer)
        self._writers -= {writer, to_mailbox}

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_mailbox: asyncio.StreamWriter
    ) -> None:
        while line := await reader.readline():
            tag, _, command = line.partition(b" ")
            assert not command.upper().startswith(b"LOGIN")
            if command.upper().startswith(b"AUTHENTICATE"):
                mechanism = command.split()[1].decode()
                writer.write(b"+ \r\n")
                token = token_of(base64.b64decode(await reader.readline()).decode())
                self.said.append((mechanism, token))
                if mechanism != self.mechanism or token not in self.good:
                    writer.write(b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n")
                    await reader.readline()
                    writer.write(tag + f" NO no entry with {token} (Failure)\r\n".encode())
                    continue
                line = tag + f" LOGIN orders {PASSWORD}\r\n".encode()
            to_mailbox.write(line)

    async def _answer(self, from_mailbox: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await from_mailbox.readline():
            writer.write(line.replace(b"AUTH=PLAIN AUTH=LOGIN", f"AUTH={self.mechanism}".encode()))


def token_of(said: str) -> str:
    """The token of a login by XOAUTH2 or OAUTHBEARER (RFC 7628)."""
    user, auth, *end = said.split("\1")
    assert user in ("user=orders", "n,a=orders,")
    assert end == ["", ""]
    return auth.removeprefix("auth=Bearer ")


async def test_a_mailbox_takes_tokens_until_its_provider_gives_none_and_after_a_reconnection(
    tmp_path: Path, mailbox: Mailbox
) -> None:
    await mailbox.put(mail("before"))
    front = OAuthFront(mailbox, {"access-2"})
    async with front.open(), echoing() as provider, composed(tmp_path, **SETTINGS) as server:
        data = {"tokenUrl": f"{provider.url}/token", "clientId": "me", "refreshToken": "refresh-0123456789"}
        type_, allowed = "oauth2-refresh-token", [provider.url, f"http://127.0.0.1:{front.port}"]
        made = await server.owner.post(
            "/v1/connectors", {"type": type_, "name": "m", "data": data, "allowedHosts": allowed}
        )
        assert made.status == 200, made.body
        connector_url = f"/v1/connectors/{made.data['id']}"

        async def publish_at(port: int) -> str:
            at = {"host": "127.0.0.1", "port": port, "user": "orders", "tls": "disable"}
            root = {
                "type": "email-received",
                "connector": {"type": type_, "id": made.data["id"]},
                "payload": {"pollMs": 1000, "server": at},
                "children": ["say"],
            }
            workflow = (await server.owner.create_workflow({"nodes": {"root": root, "say": SAY}}))["id"]
            published = await server.owner.post(f"/v1/workflows/{workflow}/publish")
            assert published.status == 200, published.body
            return str(workflow)

        async def fails(workflow: str, word: str) -> str:
            query = sa.select(subscriptions.c.last_error).where(subscriptions.c.workflow_id == workflow)

            async def holds() -> bool:
                return word in str((await server.rows(query))[0][0])

            await until(holds)
            return str((await server.rows(query))[0][0])

        workflow = await publish_at(front.port)
        await listens(server)
        await mailbox.put(mail("one"))
        assert [one["subject"] for one in await seen(server, 1)] == ["one"]
        assert front.said[:2] == [("XOAUTH2", "access-1"), ("XOAUTH2", "access-2")]
        assert [(one["grant_type"], one["refresh_token"]) for one in provider.asked] == [
            ("refresh_token", "refresh-0123456789")
        ] * 2

        front.good, provider.token_error = set(), "invalid_grant"
        front.cut()
        said = await fails(workflow, "invalid_grant")
        assert "reconnect: get a new refresh token" in said
        assert "access-" not in said
        assert (await server.owner.get(connector_url)).data["failure"]["what"] == "reconnect"

        provider.token_error, front.mechanism = None, "OAUTHBEARER"
        front.good = {f"access-{len(provider.asked) + n}" for n in range(99)}
        await mailbox.put(mail("two"))
        again = await server.owner.put(connector_url, {"data": {**data, "refreshToken": "refresh-9876543210"}})
        assert again.status == 200, again.body
        assert [one["subject"] for one in await seen(server, 2)] == ["one", "two"]
        assert front.said[-1][0] == "OAUTHBEARER"
        assert provider.asked[-1]["refresh_token"] == "refresh-9876543210"
        assert (await server.owner.get(connector_url)).data.get("failure") is None

        front.good = set()
        front.cut()
        said = await fails(workflow, "check that its `scope` allows IMAP")
        assert "access-" not in said
        assert (await server.owner.get(connector_url)).data["failure"]["what"] == "refused"


async def test_where_an_oauth_connector_is_used_is_checked_when_it_is_published(tmp_path: Path) -> None:
    async with composed(tmp_path, **SETTINGS) as server:

        async def connector(type_: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
            made = await server.owner.post("/v1/connectors", {"type": type_, "name": type_, "data": data, **more})
            assert made.status == 200, made.body
            return {"type": type_, "id": made.data["id"]}

        async def problems(reference: dict[str, Any], at: dict[str, Any] | None) -> list[tuple[str, str]]:
            root = {"type": "email-received", "connector": reference, "payload": {"server": at}, "children": ["say"]}
            document = {"definition": {"nodes": {"root": root, "say": SAY}}}
            found = (await server.owner.post("/v1/workflows/validate", document)).data
            return [(one["code"], one["field"]) for one in found["errors"]]

        data = {"tokenUrl": "https://127.0.0.1/token", "clientId": "me", "refreshToken": "refresh-0123456789"}
        hosts = ["127.0.0.1", "imap.example.com:993"]
        oauth = await connector("oauth2-refresh-token", data, allowedHosts=hosts)
        at = {"host": "imap.example.com", "user": "orders"}
        field = "nodes.root.payload.server"
        assert await problems(oauth, at) == []
        assert await problems(oauth, {**at, "port": 994}) == [("connector_host", field)]
        assert await problems(oauth, {**at, "tls": "disable"}) == [("connector_host", field)]
        assert await problems(oauth, {**at, "host": "imap.example.org"}) == [("connector_host", field)]
        assert await problems(oauth, None) == [("connector_server", field)]
        own = await connector("imap", {"host": "imap.example.com", "user": "orders", "password": PASSWORD})
        assert await problems(own, None) == []
        assert await problems(own, at) == [("connector_server", field)]


@pytest.mark.parametrize(
    ("name", "days", "why", "mend"),
    [
        ("other.example.com", 1, "Hostname mismatch", "`host` must have the name in it"),
        ("localhost", -0.5, "certificate has expired", "must renew it"),
        ("localhost", None, "self-signed certificate", "must trust who issued it"),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, days: float | None, why: str, mend: str
) -> None:
    served, certificate = self_signed(tmp_path, name, 1 if days is None else days)
    if days is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=served) as server:
        message = await refusal(server.sockets[0].getsockname()[1])
    assert f"The mailbox has a certificate that is not accepted ({why}" in message
    assert mend in message


async def refusal(port: int, **more: Any) -> str:
    """Why a mailbox is not connected to."""
    context: Any = Context(port, Data, **{"host": "localhost", "tls": "verify-full", **more})
    with pytest.raises(NoConnection) as caught:
        await anext(listen(context))
    return caught.value.message


def listen(context: Any, cursor: Any = None, **config: Any) -> Any:
    opens = load().triggers["email-received"].listen
    assert opens is not None
    return opens(context, Config(**config), cursor)
