"""Carries out an operation of an imported OpenAPI document.

A node of the type `<api>.<operation>` gives the arguments that the document describes, as
`GET /v1/catalog/operations/{type}` shows them. They are validated before anything is sent. The request is then that of
`http-request`: the same guard, limits, connectors, statuses, idempotency keys and results.

`operation`, `server` and `effect` are filled in when the workflow is saved or run: the operation as it was imported, so
that a renewed document changes no workflow. To move a node to the version in use, remove all three.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from dustrun.actions.http import http_request, outgoing
from dustrun.core.openapi.operation import ImportedOperation
from dustrun.core.openapi.request import build_request
from dustrun.errors import Code, DustrunError, Invalid, Problem, Refused
from dustrun.sdk import Context, Effect, Fields, Origin, action
from dustrun.sdk.threads import run_beside, run_sized

_PREVIEW_KEY = "(the key of this node in this run)"


class KnownOperation(Protocol):
    """The operation that a node names, as the workflow was compiled with it."""

    operation: ImportedOperation

    def check_args(self, args: dict[str, Any]) -> None:
        """Raises `Invalid` if the arguments do not satisfy the operation's schema. Takes up to a second."""


class Input(Fields):
    """The arguments, and what they are given to."""

    args: dict[str, Any] = Field({}, description="The arguments, as the document describes them.")
    operation: str | None = Field(
        None,
        pattern="^[0-9a-f]{32}$",
        description="The operation as it was imported; filled in when the workflow is saved.",
        json_schema_extra={"x-group": "Operation"},
    )
    server: str | None = Field(
        None,
        max_length=2048,
        description="Where it is sent, as the document says; filled in likewise.",
        json_schema_extra={"x-url": True, "x-group": "Operation"},
    )
    effect: Literal["read", "write"] | None = Field(
        None,
        description="What it does, as whoever imported it says; filled in likewise.",
        json_schema_extra={"x-effect": True, "x-group": "Operation"},
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
        description="Timeout of one try in milliseconds, redirects included.",
        json_schema_extra={"x-group": "Sending"},
    )
    retries: int = Field(
        0,
        ge=0,
        le=5,
        description="Additional tries of a read without response, or with 429, 502, 503 or 504.",
        json_schema_extra={"x-group": "Sending"},
    )
    fail_on_status: bool = Field(
        True, description="Whether a status of 400 or more fails the node.", json_schema_extra={"x-group": "Sending"}
    )
    _known: KnownOperation | None = PrivateAttr(None)
    _is_checked: bool = PrivateAttr(False)

    @model_validator(mode="after")
    def _check(self) -> Input:
        if self.retries and self.effect == "write":
            raise ValueError("retries are only for reads; use the node's retry")
        return self

    def as_known(self, known: KnownOperation, *, is_checked: bool) -> Input:
        """The same with its operation; `is_checked`: its arguments are known to satisfy it."""
        self._known, self._is_checked = known, is_checked
        return self

    @property
    def is_read(self) -> bool:
        """Whether it only reads."""
        return self.effect == "read"

    async def operation_of(self) -> ImportedOperation:
        """The operation, whose schema the arguments satisfy; raises `Refused` or `Invalid`."""
        if self._known is None:
            raise Refused("It is not known which operation this is; run it as a node of a workflow.")
        if not self._is_checked:
            await run_beside(self._known.check_args, self.args)
        return self._known.operation

    def request(self, operation: ImportedOperation) -> http_request.Input:
        """The request of `http-request` that it is."""
        built = build_request(operation, self.args)
        given: dict[str, Any] = {"method": operation.method, "url": built.url, "headers": built.headers}
        given |= {"json": built.json} if built.has_json else {}
        given |= {"form": built.form} if built.form is not None else {}
        given |= {"effect": self.effect, "idempotent": self.idempotent, "timeoutMs": self.timeout_ms}
        try:
            return http_request.Input.model_validate(
                {**given, "retries": self.retries, "failOnStatus": self.fail_on_status}
            )
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
            message = f"The arguments make no request that can be sent: {found['loc'][0]}: {found['msg']}."
            problem = Problem("payload.args", message)
            raise Invalid(message, code=Code.ACTION_INPUT_INVALID, details=[problem]) from None


def _effect_of(input: Input) -> Effect:
    return Effect.READ if input.is_read else Effect.WRITE


def _preview(input: Input) -> dict[str, Any]:
    if input._known is None:
        return {"url": input.server}
    operation = input._known.operation
    try:
        request = input.request(operation)
    except (DustrunError, KeyError):  # the attempt itself says why
        return {"method": operation.method, "url": f"{operation.server}{operation.path}"}
    return outgoing.shown(http_request.build(request, _PREVIEW_KEY))


@action(
    effect=Effect.WRITE,
    effect_of=_effect_of,
    input=Input,
    output=http_request.Output,
    example_input={"args": {}},
    example_output={"status": 200, "headers": {}, "body": None, "url": "https://api.example.com/"},
    idempotent_of=lambda input: input.idempotent,
    preview=_preview,
    host_of=lambda input: http_request.host_of_url(input.server or ""),
    connector="http",
    connector_optional=True,
    sends_by_context=True,
    origins=[Origin("http", "server"), Origin("import")],
    tags=("http", "rest", "api", "openapi"),
)
async def imported_operation(input: Input, ctx: Context) -> http_request.Output:
    """Builds the request, and sends it as `http-request` does."""
    operation = await input.operation_of()
    request = await run_sized(input.args, input.request, operation)
    return await http_request.send(request, ctx)
