"""Sends an HTTP request and reads the response.

For any API without an action of its own. GET, HEAD and OPTIONS are reads: a simulation really sends them. Every other
method is a write, which a simulation only reports; set `effect: read` for a POST that only queries, as in GraphQL or
JSON-RPC, and `effect: write` for a GET that changes something.

Give at most one of `json`, `form` and `body`. Numbers are exact in both directions. Private networks are blocked unless
the server's setting `outbound_allow` lists them.

With `failOnStatus` (the default), a status below 400 is a result. A read that gets 408, 429 or 5xx may be retried:
immediately by `retries`, later by the node's `retry`. `retries` never repeats a write; 429 and 503 with `Retry-After`
mean that nothing was done, so the node's `retry` may repeat it. Any other 4xx or 5xx is definite and final. A write
without a response is uncertain and waits for a person. A redirect that turns a write into a GET (301, 302, 303) counts
as its response: if the GET fails, nothing is sent again, and without an answer the write is uncertain.

A connector adds its credential when the request is sent, and only for its own hosts: the node, its results and its
events never contain it.

Writes carry an `Idempotency-Key` that is stable across attempts and restarts. Set `idempotent` if the receiver honours
it: a write interrupted by a crash of this server is then repeated automatically.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from dustrun.actions.http import incoming, outgoing
from dustrun.actions.http.outgoing import Scalar
from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import DustrunError, Temporary
from dustrun.sdk import Context, Effect, Fields, HttpRequest, HttpResponse, Origin, action
from dustrun.sdk.threads import run_sized

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 30.0
_KEY_HEADER = "Idempotency-Key"
_PREVIEW_KEY = "(the key of this node in this run)"


class Input(Fields):
    """The request."""

    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = Field(
        "GET", description="The method."
    )
    url: str = Field(
        description="An http or https URL.", min_length=1, max_length=8192, json_schema_extra={"x-url": True}
    )
    headers: dict[str, Scalar] = Field({}, description="Headers; null omits one.")
    query: dict[str, Scalar | list[Scalar]] = Field(
        {}, description="Query parameters, added to those of the URL; a list repeats its name, null omits it."
    )
    json_value: Any = Field(
        None, alias="json", description="A body sent as JSON.", json_schema_extra={"x-group": "Body"}
    )
    form: dict[str, Scalar | list[Scalar]] | None = Field(
        None, description="A body sent like an HTML form; null omits a field.", json_schema_extra={"x-group": "Body"}
    )
    body: Any = Field(
        None,
        description="A body sent unchanged if it is a string; any other value is sent as JSON.",
        json_schema_extra={"x-group": "Body"},
    )
    effect: Literal["read", "write"] | None = Field(
        None,
        description="What the request does; by default GET, HEAD and OPTIONS read and other methods write.",
        json_schema_extra={"x-group": "Sending", "x-effect": True},
    )
    idempotent: bool = Field(
        False,
        description="Whether the receiver honours the Idempotency-Key header.",
        json_schema_extra={"x-group": "Sending"},
    )
    timeout_ms: int = Field(
        30_000,
        ge=1,
        le=600_000,
        description=("Timeout of one try in milliseconds, redirects included."),
        json_schema_extra={"x-group": "Sending"},
    )
    retries: int = Field(
        0,
        ge=0,
        le=5,
        description="Additional tries of a read without response, or with 429, 502, 503 or 504.",
        json_schema_extra={"x-group": "Sending"},
    )
    max_bytes: int | None = Field(
        None,
        ge=1,
        description="Maximum decoded response size in bytes; cannot exceed the setting outbound_max_bytes.",
        json_schema_extra={"x-group": "Sending"},
    )
    follow_redirects: bool = Field(
        True, description="Whether to follow redirects.", json_schema_extra={"x-group": "Sending"}
    )
    max_redirects: int = Field(
        5, ge=1, le=20, description="Maximum number of redirects.", json_schema_extra={"x-group": "Sending"}
    )
    fail_on_status: bool = Field(
        True, description="Whether a status of 400 or more fails the node.", json_schema_extra={"x-group": "Sending"}
    )

    @field_validator("method", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> Input:
        given = [
            name
            for name, is_given in (
                ("json", self.has_json),
                ("form", self.form is not None),
                ("body", self.body is not None),
            )
            if is_given
        ]
        if len(given) > 1:
            raise ValueError(f"give only one of json, form and body; there are {' and '.join(given)}")
        if self.retries and not self.is_read:
            raise ValueError("retries are only for reads; use the node's retry, or set effect: read")
        return self

    @property
    def has_json(self) -> bool:
        """Whether `json` was given: null is a JSON body too."""
        return "json_value" in self.model_fields_set

    @property
    def is_read(self) -> bool:
        """Whether the request only reads."""
        return self.effect == "read" if self.effect else self.method in _SAFE


class Output(Fields):
    """The response."""

    status: int = Field(description="The HTTP status.")
    headers: dict[str, str] = Field(description="The headers, with lower-case names.")
    body: Any = Field(description="JSON as a value, text as a string, anything else as base64; null without a body.")
    url: str = Field(description="The final URL, after redirects.")


def build(input: Input, idempotency_key: str) -> HttpRequest:
    """Builds the complete request."""
    body, content_type = _body(input)
    headers = dict(outgoing.pairs(input.headers))
    if content_type is not None and not outgoing.has_header(headers, "Content-Type"):
        headers["Content-Type"] = content_type
    if not input.is_read and not outgoing.has_header(headers, _KEY_HEADER):
        headers[_KEY_HEADER] = idempotency_key
    return HttpRequest(
        method=input.method,
        url=outgoing.with_query(input.url, input.query),
        headers=headers,
        body=body,
        timeout_s=input.timeout_ms / 1000,
        max_redirects=input.max_redirects if input.follow_redirects else 0,
        max_bytes=input.max_bytes,
        safe=input.is_read,
    )


def _body(input: Input) -> tuple[bytes | None, str | None]:
    if input.form is not None:
        return outgoing.form_body(input.form), "application/x-www-form-urlencoded"
    if isinstance(input.body, str):
        return input.body.encode(), "text/plain; charset=utf-8"
    if input.has_json or input.body is not None:
        return outgoing.json_body(input.json_value if input.has_json else input.body), "application/json"
    return None, None


def _effect_of(input: Input) -> Effect:
    return Effect.READ if input.is_read else Effect.WRITE


def host_of_url(url: str) -> str | None:
    """The host of an address, for the limit of requests to it; None if it has none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _preview(input: Input) -> dict[str, Any]:
    return outgoing.shown(build(input, _PREVIEW_KEY))


@action(
    effect=Effect.WRITE,
    effect_of=_effect_of,
    input=Input,
    output=Output,
    example_input={
        "method": "POST",
        "url": "https://api.example.com/orders",
        "json": {"symbol": "ETH", "amount": "{{$trigger.body.amount}}"},
    },
    example_output={
        "status": 200,
        "headers": {"content-type": "application/json"},
        "body": {"id": "ord_1", "accepted": True},
        "url": "https://api.example.com/orders",
    },
    idempotent_of=lambda input: input.idempotent,
    preview=_preview,
    host_of=lambda input: host_of_url(input.url),
    connector="http",
    connector_optional=True,
    sends_by_context=True,
    origins=[Origin("http", "url")],
    tags=("http", "rest", "api"),
)
async def http_request(input: Input, ctx: Context) -> Output:
    """Sends the request."""
    return await send(input, ctx)


async def send(input: Input, ctx: Context) -> Output:
    """Sends a request; repeats reads as `retries` says."""
    request = await run_sized(input, build, input, ctx.idempotency_key)
    for tries_left in range(input.retries, -1, -1):
        answer = await _try(request, ctx)
        wait_s = _wait_s(answer, input.retries - tries_left, ctx.now_ms)
        if not tries_left or wait_s is None or wait_s > _LONGEST_WAIT_S:
            break
        ctx.progress(f"No usable response; the next try is in {wait_s:g} s ({tries_left} left).")
        await asyncio.sleep(wait_s)
    if isinstance(answer, DustrunError):
        raise answer
    return await _finish(input, answer, ctx)


async def _try(request: HttpRequest, ctx: Context) -> HttpResponse | Temporary:
    try:
        return await ctx.http.request(request)
    except Temporary as error:
        return error


def _wait_s(answer: HttpResponse | Temporary, tried: int, now_ms: int) -> float | None:
    """Seconds to wait before the next try; None when the response is not retryable."""
    backoff_s = _FIRST_WAIT_S * (1 << tried)
    if isinstance(answer, Temporary):
        return max(backoff_s, answer.retry_after_s or 0.0)
    if answer.status not in incoming.PASSING:
        return None
    return max(backoff_s, retry_after_s(answer.headers.get("retry-after", ""), now_ms) or 0.0)


async def _finish(input: Input, response: HttpResponse, ctx: Context) -> Output:
    if input.fail_on_status and response.status >= 400:
        what = f"{input.method} {response.url.partition('?')[0]}"
        failure = functools.partial(incoming.failure, is_read=input.is_read, now_ms=ctx.now_ms)
        error = await run_sized(response.body, failure, response, what)
        if error is not None:
            raise error
    body, warning = await run_sized(response.body, incoming.read_body, response)
    if warning is not None:
        ctx.log(warning, level="warning")
    return Output(status=response.status, headers=dict(response.headers), body=body, url=response.url)
