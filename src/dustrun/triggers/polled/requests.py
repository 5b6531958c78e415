"""Requests of polled triggers. A source that knows when it changed is asked only for what is newer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import Field

from dustrun.core.values.retry_after import retry_after_s
from dustrun.errors import DustrunError, Invalid, Refused, Temporary
from dustrun.sdk import Credential, Finding, HttpRequest, HttpResponse, PolledConfig, TriggerContext
from dustrun.triggers.polled.poll_interval import too_often

MAX_BYTES: Final = 1_048_576
JSON: Final = "application/json"
_TIMEOUT_S: Final = 30.0
_MOST_HEADERS: Final = 20


class RequestConfig(PolledConfig):
    """The request of a poll."""

    url: str = Field(
        min_length=1, max_length=8192, description="An http or https URL.", json_schema_extra={"x-url": True}
    )
    headers: dict[str, str] = Field(
        {},
        max_length=_MOST_HEADERS,
        description="Headers of the request. They are part of the workflow's definition, which its readers see: a "
        "token belongs in a connector.",
    )


async def check_request(ctx: TriggerContext, config: RequestConfig) -> list[Finding]:
    """The obstacles to sending the request: a malformed or forbidden address, or a header."""
    found = too_often(ctx, config)
    try:
        await ctx.http.check(_request(config, {}, ""))
    except (Invalid, Refused) as error:
        found.append(Finding("url", error.message))
    return found


async def fetch(
    ctx: TriggerContext, config: RequestConfig, validators: Mapping[str, Any], accept: str
) -> HttpResponse | None:
    """The answer; None if nothing has changed since the one that the validators are of. Raises `DustrunError`."""
    return await ask(ctx, _request(config, validators, accept), is_conditional=bool(validators))


async def ask(ctx: TriggerContext, request: HttpRequest, *, is_conditional: bool = False) -> HttpResponse | None:
    """The answer to a request that changes nothing; None, of a conditional one, if nothing has changed. Raises
    `DustrunError`."""
    try:
        answer = await ctx.http.request(request)
    except Temporary:
        raise
    except DustrunError as error:
        raise Temporary(error.message) from None  # a read: the next look may succeed
    if answer.status == 304 and is_conditional:
        return None
    if answer.status != 200:
        wait_s = retry_after_s(answer.headers.get("retry-after", ""), ctx.now_ms)
        raise Temporary(f"The source answers with status {answer.status}.", retry_after_s=wait_s)
    return answer


def validators_of(answer: HttpResponse, credential: Credential | None) -> dict[str, Any]:
    """The validators that let the source say that nothing has changed since this answer, and who got it."""
    headers = (("etag", "etag"), ("modified", "last-modified"))
    found = {name: answer.headers.get(header, "") for name, header in headers}
    kept: dict[str, Any] = {name: value for name, value in found.items() if 0 < len(value) <= 500}
    return kept if credential is None or not kept else {**kept, "as": _name_of(credential)}


def known_validators(cursor: Any, credential: Credential | None) -> dict[str, Any]:
    """The validators in a cursor. Another credential may be another account's, which is shown other data: what the
    source has told one says nothing to the other, so a changed connector asks for everything once."""
    if cursor is None or cursor.get("as") != (None if credential is None else _name_of(credential)):
        return {}
    return {name: cursor[name] for name in ("etag", "modified") if name in cursor}


def source_of(config: RequestConfig, credential: Credential | None) -> str:
    """What tells the items of two sources apart that number them alike: the address, and whose data it shows."""
    return config.url if credential is None else f"{config.url} {credential.connector_id}"


def _name_of(credential: Credential) -> str:
    return f"{credential.connector_id}.{credential.version}"


def _request(config: RequestConfig, validators: Mapping[str, Any], accept: str) -> HttpRequest:
    headers = {name: value for name, value in (("Accept", accept),) if value}
    if "etag" in validators:
        headers["If-None-Match"] = validators["etag"]
    if "modified" in validators:
        headers["If-Modified-Since"] = validators["modified"]
    given = {name.lower() for name in config.headers}
    mine = {name: value for name, value in headers.items() if name.lower() not in given}
    return HttpRequest("GET", config.url, {**mine, **config.headers}, timeout_s=_TIMEOUT_S, max_bytes=MAX_BYTES)


def request_of(config: RequestConfig, accept: str, **changes: Any) -> HttpRequest:
    """The request of a config, with what is different: the method, a body, the address of another page."""
    return replace(_request(config, {}, accept), safe=True, **changes)
