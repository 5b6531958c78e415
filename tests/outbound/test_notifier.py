"""Messages against real servers on loopback, and services that must not be reached. Each one starts a process."""

from __future__ import annotations

import asyncio
import resource
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from dustrun.core.values.exact_json import loads
from dustrun.errors import DustrunError, Invalid, Permanent, Temporary, Uncertain
from dustrun.outbound.notifier import GuardedNotifier
from dustrun.sdk.context import NoConnection
from dustrun.sdk.notice import NotAccepted, Notice
from outbound.loopback import Seen, json_answer, read_head, reset, serving, serving_raw

ALLOW = ("127.0.0.1",)
HELLO = Notice("ETH is at **2000** USD.", "Price alert", kind="warning", timeout_s=20)


async def failure(address: str, allow: tuple[str, ...] = ALLOW, notice: Notice = HELLO) -> DustrunError:
    with pytest.raises(DustrunError) as caught:
        await GuardedNotifier(allow).send(address, notice)
    return caught.value


def to(url: str, path: str = "") -> str:
    return url.replace("http://", "json://user:hunter2@") + path


async def test_message_arrives_over_http() -> None:
    async with serving(lambda _: json_answer("{}")) as server:
        assert await GuardedNotifier(ALLOW).send(to(server.url, "/hook"), HELLO) == "JSON"
    (seen,) = server.seen
    sent = loads(seen.body)
    assert (seen.method, seen.path) == ("POST", "/hook")
    assert (sent["title"], sent["message"], sent["type"]) == (HELLO.title, HELLO.body, "warning")


async def test_what_an_answer_comes_to() -> None:
    def answer(seen: Seen) -> web.Response:
        return web.Response(status=int(seen.path[1:]), headers={"Location": "/200"})

    async with serving(answer) as server:
        for status, kind in ((302, Permanent), (404, Permanent), (500, Permanent), (429, Temporary)):
            error = await failure(to(server.url, f"/{status}"))
            assert isinstance(error, kind)
            assert str(status) in error.message
        assert [seen.path for seen in server.seen] == ["/302", "/404", "/500", "/429"]


async def test_no_connection_is_certain_and_a_broken_one_is_not() -> None:
    async def drop(reader: Any, writer: Any) -> None:
        await read_head(reader)
        reset(writer)

    assert type(await failure("json://127.0.0.1:1/")) is NoConnection
    async with serving_raw(drop) as url:
        assert type(await failure(to(url))) is Uncertain


async def test_answer_without_an_end_is_read_no_further_than_its_beginning() -> None:
    sent = 0

    async def flood(reader: Any, writer: Any) -> None:
        nonlocal sent
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while sent < 200_000_000:
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1_000_000
        await asyncio.sleep(60)

    async with serving_raw(flood) as url:
        assert await GuardedNotifier(ALLOW).send(to(url), HELLO) == "JSON"
    assert sent < 50_000_000


async def test_answer_that_grows_when_it_is_decoded_is_read_no_further_than_its_beginning() -> None:
    packer, megabyte = zlib.compressobj(1, zlib.DEFLATED, 31), bytes(1_000_000)
    first, again = [packer.compress(megabyte) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    bomb = first + again * 600  # nothing in it refers to what is before it
    async with serving(lambda _: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})) as server:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        assert await GuardedNotifier(ALLOW).send(to(server.url), HELLO) == "JSON"
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # a child is as large as this process until it begins
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, own, 300_000)


async def test_process_that_takes_too_long_is_ended() -> None:
    async def hang(reader: Any, writer: Any) -> None:
        await reader.read()  # until the process that asked is gone

    async with serving_raw(hang) as url:
        with pytest.raises(Uncertain, match=r"within 1.5 s"):
            async with asyncio.timeout(60):
                await GuardedNotifier(ALLOW, start_s=1).send(to(url), replace(HELLO, timeout_s=0.5))


async def test_guard_holds_for_every_address_that_is_connected_to() -> None:
    async with serving(lambda _: json_answer("{}")) as server:
        assert "may not be reached" in (await failure(to(server.url), allow=())).message
        named = to(server.url).replace("127.0.0.1", "localhost")
        error = await failure(named, allow=("other.internal",))
        assert 'The host "localhost" may not be reached' in error.message
        assert server.seen == []
        assert await GuardedNotifier(("localhost",)).send(named, HELLO) == "JSON"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        pytest.param("syslog://", "does not speak HTTP or SMTP", marks=pytest.mark.long),
        ("dbus://", "does not speak HTTP or SMTP"),
        pytest.param("macosx://", "does not speak HTTP or SMTP", marks=pytest.mark.long),
        pytest.param("rsyslog://127.0.0.1", "does not speak HTTP or SMTP", marks=pytest.mark.long),
        pytest.param("mqtt://127.0.0.1/topic", "does not speak HTTP or SMTP", marks=pytest.mark.long),
        pytest.param("exec://id", 'no service "exec"', marks=pytest.mark.long),
        ("file:///etc/passwd", 'no service "file"'),
        ("slack://half", "not valid for the service"),
        ("workflows://host:443/workflow/signature?template=/etc/passwd", "names a file of this machine"),
        ("not an address", "must be a URL"),
    ],
)
async def test_what_is_no_outside_service_is_refused(address: str, words: str) -> None:
    error = await failure(address)
    assert isinstance(error, Invalid)
    assert words in error.message
    assert "signature" not in error.message


class Mailbox:
    """Keeps letters, and refuses one recipient."""

    def __init__(self) -> None:
        self.letters: list[Envelope] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("nobody@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.letters.append(envelope)
        return "250 OK"


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Mailbox, int]]:
    """A real SMTP server: its mailbox and its port."""
    mailbox = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    async with server:
        yield mailbox, server.sockets[0].getsockname()[1]


async def test_letter_arrives_over_smtp() -> None:
    async with receiving() as (mailbox, port):
        address = f"mailto://127.0.0.1:{port}/?from=bot@example.com&to=ops@example.com&smtp=127.0.0.1"
        await GuardedNotifier(ALLOW).send(address, HELLO)
        (letter,) = mailbox.letters
        assert letter.rcpt_tos == ["ops@example.com"]
        assert isinstance(letter.content, bytes)
        assert b"Price alert" in letter.content
        error = await failure(address.replace("ops@", "nobody@"))
        assert isinstance(error, Permanent)
        assert len(mailbox.letters) == 1
        assert "may not be reached" in (await failure(address, allow=())).message


async def test_mail_server_that_refuses_the_login_is_told_from_one_that_refuses_a_letter() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            word = line[:4].upper()
            answer = (
                b"250-here\r\n250 AUTH PLAIN LOGIN" if word == b"EHLO" else b"535 no" if word == b"AUTH" else b"221 bye"
            )
            writer.write(answer + b"\r\n")

    async with serving_raw(talk) as url:
        port = url.rpartition(":")[2]
        error = await failure(
            f"mailto://me:hunter2@127.0.0.1:{port}/?from=bot@example.com&to=o@example.com&smtp=127.0.0.1"
        )
    assert isinstance(error, NotAccepted)
    assert (error.status, error.message) == (401, "The service did not accept the message: it answered 535.")


async def test_secrets_of_the_address_are_in_no_error() -> None:
    async with serving(lambda _: web.Response(status=403, text="hunter2")) as server:
        assert "hunter2" not in repr((await failure(to(server.url))).__dict__)
