"""`/v1/hooks`: where events of runs are sent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from dustrun.core.run.state import Mode
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import STORED, Answer, From, PageAnswer, Time
from dustrun.operations.declaration.fields import Description, Name, Paged, Text
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.hook_deliveries import DeliveryAnswer, delivery
from dustrun.services.access.paging import Page
from dustrun.services.hooks.hooks import OVERLAP_HOURS, HookContent, NewSecret
from dustrun.storage.hooks.deliveries import DeliveryRow
from dustrun.storage.hooks.hooks import HookRow

noun = Noun("Hooks")
aliases = [
    (r"/v1/execution-webhooks/deliveries(/.*)?", r"/v1/hook-deliveries\1"),
    (r"/v1/execution-webhooks/([^/]+)/regenerate-secret", r"/v1/hooks/\1/rotate-secret"),
    (r"/v1/execution-webhooks(/.*)?", r"/v1/hooks\1"),
]
"""Paths by which clients of other platforms ask for the same; what follows is one path, with one permission."""

Url = Annotated[
    Text,
    StringConstraints(min_length=1, max_length=2048),
    Field(
        description="Where deliveries are POSTed. `https://`, or `http://` for hosts that the operator lists.",
        examples=["https://hooks.example.com/dustrun"],
    ),
]
EventTypes = Annotated[
    list[Annotated[Text, StringConstraints(min_length=1, max_length=64)]],
    Field(
        min_length=1,
        max_length=60,
        description=(
            "Types like `run.failed`, or patterns: `run.*`, `node.*`, `transaction.*`, `workflow.*`, `launch.*`, "
            "`hook.*`, `*`."
        ),
        examples=[["run.failed", "transaction.*"]],
    ),
]
WorkflowIds = Annotated[
    list[Annotated[str, StringConstraints(pattern=r"^wf_[a-z0-9]{26}$")]], Field(min_length=1, max_length=100)
]
Modes = Annotated[list[Mode], Field(min_length=1, max_length=3)]
MaxRetries = Annotated[int, Field(ge=0, le=50)]
_WORKFLOWS = "Only runs of these workflows; null: all runs."
_MODES = "Modes of the runs that it is told of. Default: `live` and `dust`."
_RETRIES = "Most retries of a delivery; the setting `hook_retry_s` says when. The default lasts 24 hours."


class CreateHook(Fields):
    """A new hook."""

    name: Name = Field(description="Label.", examples=["Alerts"])
    description: Description | None = Field(None, description="Free text.")
    url: Url
    subscribed_event_types: EventTypes = Field(default_factory=lambda: ["run.*"])
    workflow_ids: WorkflowIds | None = Field(None, description=_WORKFLOWS)
    modes: Modes = Field(default_factory=lambda: [Mode.LIVE, Mode.DUST], description=_MODES)
    max_retries: MaxRetries = Field(11, description=_RETRIES)


class UpdateHook(Fields):
    """Fields to change; absent fields stay as they are."""

    name: Name | None = Field(None, description="Label.")
    description: Description | None = Field(None, description="Free text.")
    url: Url | None = None
    subscribed_event_types: EventTypes | None = None
    workflow_ids: WorkflowIds | None = Field(None, description=_WORKFLOWS)
    modes: Modes | None = Field(None, description=_MODES)
    max_retries: MaxRetries | None = Field(None, description=_RETRIES)


class RotateSecret(Fields):
    """How the old secret ends."""

    overlap_hours: int = Field(
        OVERLAP_HOURS, ge=0, le=720, description="Hours for which deliveries are signed with the old secret too."
    )


class HookAnswer(Answer):
    """A hook, without its secret."""

    id: str
    organization_id: Annotated[str, From("org_id")]
    name: str
    description: str | None
    url: str
    subscribed_event_types: Annotated[list[str], From("event_types"), STORED]
    workflow_ids: Annotated[list[str] | None, STORED]
    modes: Annotated[list[str], STORED]
    max_retries: int
    status: Literal["active", "disabled"]
    disabled_at: Time | None
    disabled_reason: str | None
    failures: int = Field(description="Failed attempts in a row.")
    failing_since: Time | None = Field(description="The first of them.")
    created_by: str = Field(description="Id of the key.")
    created_at: Time
    updated_at: Time


class HookSecretAnswer(HookAnswer, of="row"):
    """A hook with its new secret."""

    secret: str = Field(description="Signs the deliveries (Standard Webhooks); shown only once.")
    previous_secret_until: Annotated[Time | None, From("previous_until")] = Field(
        description="Until then deliveries are signed with the old secret too."
    )


@noun.get("/v1/hooks", permission="hook:read", answers=PageAnswer[HookAnswer])
async def list_hooks(call: Call, paging: Paged) -> Page[HookRow]:
    """List the organisation's hooks, newest first."""
    return await call.parts.hooks.hooks.list_page(call.principal, paging)


@noun.post(
    "/v1/hooks",
    permission="hook:write",
    answers=HookSecretAnswer,
    refusals=[Code.HOOK_LIMIT, Code.VAULT_LOCKED],
    secret=True,
    example={
        "name": "Alerts",
        "url": "https://hooks.example.com/dustrun",
        "subscribedEventTypes": ["run.failed", "transaction.*"],
    },
)
async def create_hook(call: Call, body: CreateHook) -> NewSecret:
    """Create a hook: from now on, events are sent to its URL.

    Each event of a matching type is sent at least once, and those of one run in their order. A run that is under way
    joins at its next wait, resume or end. The secret is shown only in this answer.
    """
    content = HookContent(
        name=body.name,
        description=body.description,
        url=body.url,
        event_types=body.subscribed_event_types,
        workflow_ids=body.workflow_ids,
        modes=[mode.value for mode in body.modes],
        max_retries=body.max_retries,
    )
    return await call.parts.hooks.hooks.create(call.principal, content)


@noun.get("/v1/hooks/{id}", permission="hook:read", answers=HookAnswer, refusals=[Code.HOOK_UNKNOWN])
async def get_hook(call: Call, id: str) -> HookRow:
    """Get one hook."""
    return await call.parts.hooks.hooks.get(call.principal, id)


@noun.put(
    "/v1/hooks/{id}",
    permission="hook:write",
    reads="hook:read",
    answers=HookAnswer,
    refusals=[Code.HOOK_UNKNOWN],
    example={"subscribedEventTypes": ["run.*"], "maxRetries": 5},
)
async def update_hook(call: Call, id: str, body: UpdateHook) -> HookRow:
    """Change a hook. `workflowIds: null` means all runs."""
    given = {name: getattr(body, name) for name in body.model_fields_set}
    clearable = ("description", "workflow_ids")
    changes = {name: value for name, value in given.items() if value is not None or name in clearable}
    if "subscribed_event_types" in changes:
        changes["event_types"] = changes.pop("subscribed_event_types")
    if "modes" in changes:
        changes["modes"] = [mode.value for mode in changes["modes"]]
    return await call.parts.hooks.hooks.update(call.principal, id, changes)


@noun.delete(
    "/v1/hooks/{id}",
    permission="hook:write",
    reads="hook:read",
    answers=HookAnswer,
    refusals=[Code.HOOK_UNKNOWN],
)
async def delete_hook(call: Call, id: str) -> HookRow:
    """Delete a hook. What has not arrived is given up; the deliveries stay in the log for some days."""
    return await call.parts.hooks.hooks.delete(call.principal, id)


@noun.post(
    "/v1/hooks/{id}/enable",
    permission="hook:write",
    reads="hook:read",
    answers=HookAnswer,
    refusals=[Code.HOOK_UNKNOWN],
)
async def enable_hook(call: Call, id: str) -> HookRow:
    """Enable a hook: open deliveries go on, and events are sent from now on."""
    return await call.parts.hooks.hooks.enable(call.principal, id)


@noun.post(
    "/v1/hooks/{id}/disable",
    permission="hook:write",
    reads="hook:read",
    answers=HookAnswer,
    refusals=[Code.HOOK_UNKNOWN],
)
async def disable_hook(call: Call, id: str) -> HookRow:
    """Disable a hook: open deliveries wait, and what happens meanwhile is not sent."""
    return await call.parts.hooks.hooks.disable(call.principal, id)


@noun.post(
    "/v1/hooks/{id}/rotate-secret",
    permission="hook:write",
    reads="hook:read",
    needed=["secret", "previousSecretUntil"],
    answers=HookSecretAnswer,
    refusals=[Code.HOOK_UNKNOWN, Code.VAULT_LOCKED],
    secret=True,
    example={"overlapHours": 48},
)
async def rotate_hook_secret(call: Call, id: str, body: RotateSecret | None = None) -> NewSecret:
    """Make a new signing secret. During the overlap, deliveries carry a signature of the old one too."""
    hours = OVERLAP_HOURS if body is None else body.overlap_hours
    return await call.parts.hooks.hooks.rotate(call.principal, id, hours)


@noun.post(
    "/v1/hooks/{id}/test",
    permission="hook:write",
    reads="hook:read",
    needed=["durationMs", "errorMessage"],
    answers=DeliveryAnswer,
    shape=delivery,
    refusals=[Code.HOOK_UNKNOWN, Code.SECRET_UNREADABLE],
)
async def try_hook(call: Call, id: str) -> DeliveryRow:
    """Send a `hook.ping` once and now, also to a disabled hook. The answer shows whether it arrived."""
    return await call.parts.hooks.deliveries.test(call.principal, id)
