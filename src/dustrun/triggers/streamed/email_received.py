"""Starts a run for each e-mail that comes into a mailbox.

The server watches a folder by IMAP, and changes nothing in it: messages stay unread. With IDLE it hears of a message
at once, without it looks every `pollMs`. Messages start runs in their order, each once, with the cursor in one
transaction.

The connector is of the type `imap`, with a password, or an OAuth 2 connector; then `server` says where the mailbox is.

Treat what an e-mail says as untrusted: anybody can write one, and its sender is not proven. The server needs the extra
`email` (`pip install dustrun[email]`).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, field_validator

from dustrun.clock import to_rfc3339
from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import compile_over
from dustrun.errors import Invalid, Temporary
from dustrun.records import dataclass
from dustrun.sdk import Finding, PolledEvent, TriggerConfig, TriggerContext
from dustrun.sdk.brokers.refusals import unreachable
from dustrun.sdk.context import NoConnection
from dustrun.sdk.fields import Fields, raw
from dustrun.sdk.threads import run_in_thread
from dustrun.sdk.trigger import Lost, NoRun, Received, streamed
from dustrun.triggers._event_output import EventOutput, example_output
from dustrun.triggers.streamed.sockets import NamedTls, blocking, until_readable

if TYPE_CHECKING:
    from imapclient import IMAPClient

_MAIL: Final = ("mail",)
_AT_ONCE: Final = 10
_OPENS_WITHIN_S: Final = 15
_ANSWERS_WITHIN_S: Final = 60
_LONGEST_TEXT: Final = 100_000
_MOST_PARTS: Final = 200
_REFUSED: Final = (
    "The mailbox refuses the connector's access token, and a new one too: check that its `scope` allows IMAP, and that "
    "it was given for the user of `server`. It says:"
)
_MISSING: Final = "needs the extra `email` on the server: pip install dustrun[email]"


class Server(Fields):
    """A mailbox whose owner an OAuth 2 connector speaks for."""

    host: str = Field(
        min_length=1, max_length=253, pattern=r"^[^\s/@]+$", description="Host name or IP address of the IMAP server."
    )
    port: int = Field(993, ge=1, le=65535, description="Its port.")
    user: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]+$", description="Whose mailbox it is.")
    tls: Literal["verify-full", "disable"] = Field(
        "verify-full",
        description="`verify-full`: encrypted, and the server's certificate is checked; `disable`: not encrypted.",
    )

    @property
    def origin(self) -> str:
        """The hosts that a connector's `allowedHosts` must allow."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls == 'verify-full' else 'http'}://{host}:{self.port}"


class Config(TriggerConfig):
    """Which messages start a run."""

    server: Server | None = Field(
        None,
        description="With an OAuth 2 connector: where the mailbox is; `host:port` must be in its `allowedHosts`. With "
        "one of the type `imap`: null, since that says it.",
        json_schema_extra={"x-server": True},
    )
    folder: str = Field("INBOX", min_length=1, max_length=255, description="The folder.")
    filter: str | None = raw(
        None, max_length=4000, description='Which messages start a run, like `mail.subject.startsWith("Invoice")`.'
    )
    poll_ms: int = Field(
        60_000, ge=1000, le=600_000, strict=True, description="Milliseconds between two looks, besides what IDLE tells."
    )
    max_bytes: int = Field(
        1_048_576, ge=1024, le=10_485_760, description="The largest message that is read; of a larger one the headers."
    )
    attachment_bytes: int = Field(
        0, ge=0, le=524_288, description="How many bytes of attachments an event may have, as base64; 0: none."
    )

    @field_validator("filter")
    @classmethod
    def _check_filter(cls, text: str | None) -> str | None:
        if text is not None:
            compile_over(text, _MAIL)
        return text


class Attachment(Fields):
    """A file in a message."""

    name: str | None = Field(description="Its name.")
    type: str = Field(description="Its media type.")
    bytes: int = Field(description="Its size.")
    sha256: str = Field(description="The SHA-256 of its content, hexadecimal.")
    content: str | None = Field(description="Its content as base64, if `attachmentBytes` allows it.")


class Mail(Fields):
    """A message; what it does not say is null."""

    uid: int = Field(description="Its number in the folder.")
    message_id: str | None = Field(description="Its `Message-ID`.")
    in_reply_to: str | None = Field(description="The `Message-ID` that it answers.")
    from_: str | None = Field(alias="from", description="Its sender, as it says. Nobody has proven it.")
    to: list[str] = Field(description="Its recipients.")
    cc: list[str] = Field(description="Who gets a copy.")
    subject: str | None = Field(description="Its subject.")
    date: str | None = Field(description="Its `Date`, as it is written.")
    text: str | None = Field(description="Its plain text, cut at 100,000 characters.")
    html: str | None = Field(description="Its HTML, cut at 100,000 characters.")
    attachments: list[Attachment] = Field(description="The files in it.")
    size: int = Field(description="Its size in bytes.")
    is_cut: bool = Field(description="Whether it is larger than `maxBytes`, so that only its headers are here.")


class Output(EventOutput):
    """One message."""

    folder: str = Field(description="The folder.")
    mail: Mail = Field(description="The message.")
    received_at: str = Field(description="When the server saw it, RFC 3339.")


@dataclass(frozen=True, slots=True)
class _Raw:
    """A message as the server gives it."""

    uid: int
    size: int
    body: bytes
    is_cut: bool


async def _check(_: TriggerContext, __: Config) -> list[Finding]:
    return [] if importlib.util.find_spec("imapclient") is not None else [Finding("", _MISSING)]


async def _login(
    ctx: TriggerContext, config: Config, not_this: str | None
) -> tuple[Any, str | None, Callable[[IMAPClient], Any]]:
    """Where the mailbox is, the token for it if it takes one, and what logs in there."""
    if ctx.connection is not None:
        if config.server is not None:
            raise Invalid("The connector says where the mailbox is; leave `server` out.")
        data = ctx.connection.data
        return data, None, lambda client: client.login(data.user, data.password)
    if config.server is None:
        raise Invalid('The trigger needs a connector of the type "imap", or an OAuth 2 connector and `server`.')
    server = config.server
    encrypts = server.tls == "verify-full"
    token = await ctx.bearer(server.host, server.port, encrypts=encrypts, not_this=not_this)
    if token is None:
        raise Invalid('The trigger needs a connector of the type "imap", or an OAuth 2 connector.')
    return server, token, partial(_present, server.user, token)


def _present(user: str, token: str, client: IMAPClient) -> None:
    """Logs in with a token: as RFC 7628 says if the server takes that alone, else as Google and Microsoft do."""
    takes = [client.has_capability(f"AUTH={one}") for one in ("XOAUTH2", "OAUTHBEARER")]
    login = client.oauthbearer_login if takes == [False, True] else client.oauth2_login
    login(user, token)


async def _opened(ctx: TriggerContext, config: Config) -> tuple[IMAPClient, int, int, bool]:
    """A connection, as `_connect` makes it; with another token if the first is refused. Raises `NoConnection`."""
    from imapclient.exceptions import LoginError  # optional dependency

    refused = None
    while True:
        data, token, login = await _login(ctx, config, refused)
        (address, *_) = await ctx.http.addresses(data.host, data.port)
        try:
            return await blocking(_connect, data, address, login, config.folder)
        except LoginError as error:
            if token is None:
                raise NoConnection(f"The mailbox cannot be read: {_said(error)}", 401) from None
            if refused is not None:
                raise NoConnection(f"{_REFUSED} {_said(error)}", 401) from None
            refused = token
        except OSError as error:
            where, encrypts = ("host" if token is None else "server.host"), data.tls == "verify-full"
            raise unreachable("The mailbox", error, where=where, encrypts=encrypts) from None


def _connect(
    data: Any, address: str, login: Callable[[IMAPClient], Any], folder: str
) -> tuple[IMAPClient, int, int, bool]:
    """A connection with the folder open, only to read; its `UIDVALIDITY`, the number of the next message, and whether
    the server tells of news."""
    from imapclient import IMAPClient, SocketTimeout  # optional dependency

    encrypts = data.tls == "verify-full"
    client = IMAPClient(
        address,
        data.port,
        ssl=encrypts,
        ssl_context=NamedTls.of(data.host) if encrypts else None,
        timeout=SocketTimeout(_OPENS_WITHIN_S, _ANSWERS_WITHIN_S),
    )
    try:
        login(client)
        found = client.select_folder(folder, readonly=True)
        idles = client.has_capability("IDLE")  # it may ask the server
        return client, int(found[b"UIDVALIDITY"]), int(found[b"UIDNEXT"]), idles
    except BaseException:
        client.shutdown()
        raise


def _fetch(client: IMAPClient, after: int, most: int) -> tuple[list[_Raw], int, bool]:
    """The next messages, unread as they are, the number up to which they were read, and whether there are more."""
    uids = sorted(uid for uid in client.search(["UID", f"{after + 1}:*"]) if uid > after)
    some = uids[:_AT_ONCE]
    if not some:
        return [], after, False
    sizes = {uid: int(one[b"RFC822.SIZE"]) for uid, one in client.fetch(some, ["RFC822.SIZE"]).items()}
    found = []
    for uid in some:
        if uid not in sizes:
            continue  # it was removed in the meantime
        is_cut = sizes[uid] > most
        wanted, part = (f"[HEADER]<0.{most}>", b"BODY[HEADER]<0>") if is_cut else ("[]", b"BODY[]")
        answer = client.fetch([uid], [f"BODY.PEEK{wanted}"]).get(uid, {})
        if part in answer:
            found.append(_Raw(uid, sizes[uid], answer[part] or b"", is_cut))
    return found, some[-1], len(uids) > len(some)


def _events(config: Config, messages: list[_Raw], validity: int, now: int, _: object) -> list[PolledEvent]:
    found = []
    for one in messages:
        no_run = None
        try:
            mail = _read(config, one)
        except Exception as error:  # whoever writes an e-mail must not hold up the others
            mail = _read(config, replace(one, body=b"", is_cut=True))
            reason = f"The message cannot be read ({type(error).__name__})."
            no_run = NoRun("payload", reason, is_failure=True)
        if config.filter is not None and no_run is None:
            try:
                if compile_over(config.filter, _MAIL).value(mail=mail) is not True:
                    continue
            except ExpressionError as error:
                no_run = NoRun("filter", f"`filter` cannot be evaluated: {error}", is_failure=True)
        payload = {"folder": config.folder, "mail": mail, "receivedAt": to_rfc3339(now)}
        found.append(PolledEvent(f"{validity}:{one.uid}", payload, now, {"validity": validity, "uid": one.uid}, no_run))
    return found


def _read(config: Config, one: _Raw) -> dict[str, Any]:
    message = message_from_bytes(one.body, policy=policy.default)
    assert isinstance(message, EmailMessage)
    texts: dict[str, str | None] = {"plain": None, "html": None}
    attachments: list[dict[str, Any]] = []
    left = config.attachment_bytes
    parts = [] if one.is_cut else [part for part in message.walk() if not part.is_multipart()][:_MOST_PARTS]
    for part in parts:
        kind = part.get_content_subtype()
        is_text = part.get_content_maintype() == "text" and kind in texts and not part.is_attachment()
        data = _payload(part)
        if is_text and texts[kind] is None:
            texts[kind] = _decoded(data, part)[:_LONGEST_TEXT]
            continue
        takes = 0 < len(data) <= left
        left -= len(data) if takes else 0
        attachments.append(
            {
                "name": part.get_filename(),
                "type": part.get_content_type(),
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "content": base64.b64encode(data).decode() if takes else None,
            }
        )
    return {
        "uid": one.uid,
        "messageId": _header(message, "Message-ID"),
        "inReplyTo": _header(message, "In-Reply-To"),
        "from": _header(message, "From"),
        "to": _headers(message, "To"),
        "cc": _headers(message, "Cc"),
        "subject": _header(message, "Subject"),
        "date": _header(message, "Date"),
        "text": texts["plain"],
        "html": texts["html"],
        "attachments": attachments,
        "size": one.size,
        "isCut": one.is_cut,
    }


def _payload(part: Any) -> bytes:
    found = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


def _decoded(data: bytes, part: Any) -> str:
    try:
        found = data.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):  # a charset that nobody knows, or could be the name of one
        found = data.decode("utf-8", "replace")
    return found.replace("\r\n", "\n")


def _header(message: EmailMessage, name: str) -> str | None:
    try:
        found = message[name]
    except (ValueError, IndexError, AttributeError):  # what a sender has written wrong
        return None
    return None if found is None else " ".join(str(found).split())[:2000]


def _headers(message: EmailMessage, name: str) -> list[str]:
    text = _header(message, name)
    return [] if text is None else [one.strip() for one in text.split(",") if one.strip()][:100]


_EXAMPLE = {
    "folder": "INBOX",
    "mail": {
        "uid": 1042,
        "messageId": "<a17@shop.example.com>",
        "inReplyTo": None,
        "from": "Shop <orders@shop.example.com>",
        "to": ["orders@example.com"],
        "cc": [],
        "subject": "Invoice A-17",
        "date": "Sat, 31 Jan 2026 12:00:00 +0000",
        "text": "Please pay 25.00 USDC.",
        "html": None,
        "attachments": [],
        "size": 1830,
        "isCut": False,
    },
    "receivedAt": "2026-01-31T12:00:01.000Z",
}


@streamed(
    config=Config,
    output=Output,
    check=_check,
    connector=("imap", "oauth2-refresh-token", "oauth2-client-credentials"),
    connector_required=True,
    example_config={"folder": "INBOX", "filter": 'mail.subject.startsWith("Invoice")'},
    example_output=example_output(_EXAMPLE, "email-received"),
)
async def listen(ctx: TriggerContext, config: Config, cursor: Any) -> AsyncIterator[Received]:
    """Takes messages from the cursor on: the number of the last one, in the folder as it is now."""
    if importlib.util.find_spec("imapclient") is None:
        raise Temporary(f"The trigger {_MISSING}.")
    from imapclient.exceptions import IMAPClientError  # optional dependency

    client = None
    try:
        client, validity, following, idles = await _opened(ctx, config)
        lost = None
        if cursor is not None and cursor["validity"] != validity:
            reason = "The folder was made anew: its messages have other numbers (UIDVALIDITY)."
            lost = Lost({"validity": cursor["validity"], "fromUid": cursor["uid"] + 1}, reason)
        uid = following - 1 if cursor is None or lost is not None else int(cursor["uid"])
        yield Received((), {"validity": validity, "uid": uid}, lost)
        while True:
            messages, uid, has_more = await blocking(_fetch, client, uid, config.max_bytes)
            if messages:
                work = partial(_events, config, messages, validity, ctx.now_ms)
                events = await run_in_thread(work, sum(len(one.body) for one in messages))
                yield Received(events, {"validity": validity, "uid": uid})
            if not has_more:
                await _wait(client, config.poll_ms / 1000, idles=idles)
    except (IMAPClientError, OSError) as error:
        raise Temporary(f"The mailbox cannot be read: {_said(error)}") from None
    finally:
        if client is not None:
            await blocking(_close, client)


def _said(error: Exception) -> str:
    return str(error)[:300] or type(error).__name__


async def _wait(client: IMAPClient, timeout_s: float, *, idles: bool) -> None:
    """Waits for news, for so long at most."""
    if not idles:
        sock = client.socket()
        await until_readable(sock, timeout_s)
        await blocking(client.noop)
        return
    await blocking(client.idle)
    await until_readable(client.socket(), timeout_s)
    await blocking(client.idle_done)


def _close(client: IMAPClient) -> None:
    try:
        client.shutdown()
    except OSError:
        return  # it is closed
