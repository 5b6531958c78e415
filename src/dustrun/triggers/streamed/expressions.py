"""Parts of a message that listening triggers choose by expressions over it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from dustrun.core.expression import ExpressionError
from dustrun.core.triggers.polling import compile_over
from dustrun.core.values import exact_json
from dustrun.errors import DustrunError, Invalid, Permanent, Refused
from dustrun.sdk import Finding, HttpRequest, TriggerConfig, TriggerContext
from dustrun.sdk.fields import raw
from dustrun.sdk.trigger import NoRun

MESSAGE: Final = ("message",)
_MOST_HEADERS: Final = 20


def _check_message(text: str) -> str:
    compile_over(text, MESSAGE)
    return text


OverMessage = Annotated[str, AfterValidator(_check_message)]


class StreamConfig(TriggerConfig):
    """The address to connect to, and what of its messages counts."""

    headers: dict[str, str] = Field(
        {},
        max_length=_MOST_HEADERS,
        description="Headers of the request. They are part of the workflow's definition, which its readers see: a "
        "token belongs in a connector.",
    )
    filter: OverMessage | None = raw(
        None, max_length=4000, description='Which messages start a run, like `message.type == "trade"`; null: all.'
    )
    key: OverMessage | None = raw(
        None,
        max_length=4000,
        description="What identifies a message, like `message.id`: the same again starts no second run. Null: what the "
        "source gives it, or else nothing.",
    )
    max_bytes: int = Field(262_144, ge=1024, le=1_048_576, description="The largest message, in bytes.")


def read_message(text: str | bytes) -> Any:
    """A message as JSON, else as text."""
    try:
        return exact_json.loads(text)
    except exact_json.JsonError:
        return text if isinstance(text, str) else text.decode("utf-8", "replace")


def value_of(name: str, text: str, message: Any) -> Any:
    """An expression's value for a message; raises `Invalid`."""
    try:
        return compile_over(text, MESSAGE).value(message=message)
    except ExpressionError as error:
        raise Invalid(f"`{name}` does not fit a message: {error}") from None


def judge(filter: str | None, message: Any) -> tuple[bool, NoRun | None]:
    """Whether a message is an event, and why it starts no run if its filter cannot be evaluated."""
    if filter is None:
        return True, None
    try:
        return compile_over(filter, MESSAGE).value(message=message) is True, None
    except ExpressionError as error:
        return True, NoRun("filter", f"`filter` cannot be evaluated: {error}", is_failure=True)


def too_large(most: int) -> NoRun:
    """Why a message starts no run that is larger than it may be."""
    return NoRun("payload", f"The message is larger than {most} bytes (maxBytes).", is_failure=True)


def not_read(error: DustrunError) -> NoRun:
    """Why a message starts no run of which an expression cannot be evaluated."""
    return NoRun("filter", error.message, is_failure=True)


async def check_address(ctx: TriggerContext, request: HttpRequest) -> list[Finding]:
    """The obstacles to opening the connection: a malformed or forbidden address, or a header."""
    try:
        await ctx.http.check(request)
    except (Invalid, Refused, Permanent) as error:
        return [Finding("url", error.message)]
    except DustrunError as error:
        return [Finding("url", error.message, "warning")]
    return []
