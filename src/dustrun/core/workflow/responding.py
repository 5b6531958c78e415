"""The payload of a `respond` node: what the request that started a run is answered with, and what such an answer may
contain."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import Field, field_validator, model_validator

from dustrun.core.values.exact_json import dumps_wire
from dustrun.core.values.fields import Fields

JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain; charset=utf-8"
_BODYLESS = frozenset({204, 205, 304})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[\x20-\x7e\t]{0,4096}")
_MEDIA = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}"
    r'(?:[ \t]*;[ \t]*[A-Za-z0-9_.-]{1,40}=(?:[A-Za-z0-9_.+:/-]{1,100}|"[^"\\\x00-\x1f\x7f-\uffff]{0,100}"))*'
)
_CHARSET = re.compile(r"charset=\"?([^\";]*)", re.IGNORECASE)
_MOST_HEADERS = 50
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SERVERS_OWN = frozenset(
    {
        "age",
        "alt-svc",
        "authorization",
        "clear-site-data",
        "content-encoding",
        "content-length",
        "content-range",
        "content-security-policy",
        "content-security-policy-report-only",
        "content-type",
        "cookie",
        "date",
        "document-policy",
        "feature-policy",
        "host",
        "idempotency-replayed",
        "nel",
        "origin-agent-cluster",
        "permissions-policy",
        "public-key-pins",
        "referrer-policy",
        "refresh",
        "report-to",
        "reporting-endpoints",
        "server",
        "service-worker-allowed",
        "set-cookie",
        "set-cookie2",
        "set-login",
        "sourcemap",
        "speculation-rules",
        "strict-transport-security",
        "supports-loading-mode",
        "timing-allow-origin",
        "via",
        "www-authenticate",
        "x-content-type-options",
        "x-dns-prefetch-control",
        "x-frame-options",
        "x-powered-by",
        "x-request-id",
        "x-sourcemap",
        "x-xss-protection",
    }
)
_SERVERS_OWN_PREFIXES = ("access-control-", "cross-origin-", "proxy-", "sec-", ":")


class RespondPayload(Fields):
    """Answers the request that started this run; the run goes on."""

    status: int = Field(200, ge=200, le=599, description="Status code of the answer.")
    headers: dict[str, str] = Field(
        default_factory=dict,
        max_length=_MOST_HEADERS,
        description="Headers of the answer. Those that concern the connection, cookies or what browsers may do belong "
        "to the server and are refused.",
    )
    body: Any = Field(None, description="The body: any JSON value, or text with a `contentType` of text.")
    content_type: str | None = Field(
        None,
        max_length=200,
        description="Type of the body; without it `text/plain` if `body` is text, else `application/json`.",
    )

    @field_validator("headers")
    @classmethod
    def _may_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        if len({name.lower() for name in headers}) != len(headers):
            raise ValueError("two headers have the same name")
        for name, value in headers.items():
            reason = why_refused(name, value)
            if reason is not None:
                raise ValueError(reason)
        return headers

    @field_validator("content_type")
    @classmethod
    def _is_harmless(cls, media_type: str | None) -> str | None:
        if media_type is not None:
            _check_media_type(media_type)
        return media_type

    @model_validator(mode="after")
    def _body_fits(self) -> RespondPayload:
        if self.body is not None and self.status in _BODYLESS:
            raise ValueError(f"an answer with status {self.status} has no body")
        has_text_type = self.content_type is not None and not is_json(self.content_type)
        if has_text_type and not isinstance(self.body, str | None):
            raise ValueError(f"a body of type {self.content_type} must be text")
        return self

    @property
    def media_type(self) -> str:
        """The type of the body as it is sent; text is always sent as UTF-8, and says so."""
        if self.content_type is None:
            return TEXT_TYPE if isinstance(self.body, str) else JSON_TYPE
        needs_charset = self.content_type.lower().startswith("text/") and "charset" not in self.content_type.lower()
        return f"{self.content_type}; charset=utf-8" if needs_charset else self.content_type


def why_refused(name: str, value: str) -> str | None:
    """Why a header may not be part of an answer; None if it may."""
    lowered = name.lower()
    if lowered == "content-type":
        return "give the content type as `contentType`, not as a header"
    if lowered in ("set-cookie", "set-cookie2"):
        return f"the header {name!r} is refused: answers of workflows set no cookies"
    if lowered in _HOP_BY_HOP:
        return f"the header {name!r} is refused: it concerns the connection, which is the server's"
    if lowered in _SERVERS_OWN or lowered.startswith(_SERVERS_OWN_PREFIXES):
        return f"the header {name!r} is refused: only the server sets it"
    if not _TOKEN.fullmatch(name):
        return f"{name[:100]!r} is no name of a header"
    if not _VALUE.fullmatch(value):
        return f"the value of the header {name!r} must be at most 4096 characters of printable ASCII, in one line"
    return None


def is_json(media_type: str) -> bool:
    """Whether bodies of a type are JSON."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind == JSON_TYPE or kind.endswith("+json")


def encoded_body(body: Any, media_type: str) -> bytes:
    """The bytes of an answer's body; none without one."""
    if body is None:
        return b""
    return dumps_wire(body) if is_json(media_type) else str(body).encode()


def _check_media_type(media_type: str) -> None:
    if not _MEDIA.fullmatch(media_type):
        raise ValueError(f"{media_type[:100]!r} is no content type, such as application/json or text/plain")
    kind, _, subtype = media_type.partition(";")[0].strip().lower().partition("/")
    if kind == "multipart" or "script" in subtype or (kind, subtype) in (("text", "css"), ("application", "wasm")):
        raise ValueError(
            f"the content type {media_type!r} is refused: a browser would execute it in the name of this server"
        )
    charset = _CHARSET.search(media_type)
    if charset is not None and charset[1].lower() != "utf-8":
        raise ValueError(f"the charset {charset[1]!r} is refused: text is sent as utf-8")
