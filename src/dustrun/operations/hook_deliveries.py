"""`/v1/hook-deliveries`: what was sent to hooks, and how it went."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dustrun.core.values import exact_json
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, PageAnswer, Time, page_shape, time
from dustrun.operations.declaration.fields import Paged, Text
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.services.access.paging import Page
from dustrun.storage.hooks.deliveries import DeliveryFilters, DeliveryRow

noun = Noun("Hooks")


class DeliveryAttempt(Answer):
    """One attempt of a delivery."""

    at: Time
    duration_ms: int
    status: int | None = Field(None, description="HTTP status of the answer; absent if there was none.")
    error: str | None = None


class DeliveryAnswer(Answer):
    """One delivery of one event to one hook."""

    id: str = Field(description="Also the header `webhook-id`, the same in every attempt.")
    organization_id: str
    endpoint_id: str = Field(description="Id of the hook.")
    event_type: str
    event_id: str = Field(description="Id of the event; the same in replays, and for every hook.")
    run_id: str | None
    workflow_id: str | None
    status: Literal["pending", "retrying", "success", "failure"]
    retry_count: int = Field(description="Attempts after the first.")
    next_retry_at: Time | None = Field(
        description="When it is due; null if it has ended or waits for an earlier delivery of its run."
    )
    duration_ms: int | None = Field(description="Of the newest attempt.")
    error_message: str | None = Field(description="Why the newest attempt failed.")
    attempts: list[DeliveryAttempt] = Field(description="The newest attempts, oldest first.")
    request_headers: dict[str, str]
    request_body: dict[str, Any]
    response_status: int | None
    response_headers: dict[str, str] | None
    response_body: str | None = Field(description="The first characters of the newest answer, secrets masked.")
    replay_of: str | None = Field(description="The delivery that this one repeats.")
    created_at: Time
    updated_at: Time
    finished_at: Time | None


def delivery(row: DeliveryRow) -> dict[str, Any]:
    """Shapes a delivery."""
    log = exact_json.loads(row.attempt_log)
    newest = log[-1] if log else {}
    response = exact_json.loads(row.response) if row.response is not None else {}
    return {
        "id": row.id,
        "organizationId": row.org_id,
        "endpointId": row.hook_id,
        "eventType": row.event_type,
        "eventId": row.event_id,
        "runId": row.run_id,
        "workflowId": row.workflow_id,
        "status": row.status,
        "retryCount": max(0, row.attempts - 1),
        "nextRetryAt": time(row.next_at),
        "durationMs": newest.get("durationMs"),
        "errorMessage": newest.get("error"),
        "attempts": [{**entry, "at": time(entry["at"])} for entry in log],
        "requestHeaders": {"content-type": "application/json", "webhook-id": row.id},
        "requestBody": exact_json.loads(row.body),
        "responseStatus": response.get("status"),
        "responseHeaders": response.get("headers"),
        "responseBody": response.get("body"),
        "replayOf": row.replay_of,
        "createdAt": time(row.created_at),
        "updatedAt": time(row.updated_at),
        "finishedAt": time(row.finished_at),
    }


@noun.get(
    "/v1/hook-deliveries",
    permission="hook:read",
    answers=PageAnswer[DeliveryAnswer],
    shape=page_shape(delivery),
)
async def list_hook_deliveries(
    call: Call,
    paging: Paged,
    hook_id: Annotated[Text | None, Named("hookId"), Field(description="Only of this hook.")] = None,
    endpoint_id: Annotated[Text | None, Named("endpointId"), Field(description="The same as `hookId`.")] = None,
    run_id: Annotated[Text | None, Named("runId"), Field(description="Only of this run.")] = None,
    status: Annotated[
        Literal["pending", "retrying", "success", "failure"] | None, Field(description="Only in this status.")
    ] = None,
) -> Page[DeliveryRow]:
    """List deliveries, newest first. The setting `hook_delivery_days` says how long they are kept."""
    filters = DeliveryFilters(hook_id or endpoint_id, status, run_id)
    return await call.parts.hooks.deliveries.list_page(call.principal, filters, paging)


@noun.get(
    "/v1/hook-deliveries/{id}",
    permission="hook:read",
    answers=DeliveryAnswer,
    shape=delivery,
    refusals=[Code.DELIVERY_UNKNOWN],
)
async def get_hook_delivery(call: Call, id: str) -> DeliveryRow:
    """Get one delivery, with its attempts."""
    return await call.parts.hooks.deliveries.get(call.principal, id)


@noun.post(
    "/v1/hook-deliveries/{id}/retry",
    permission="hook:write",
    reads="hook:read",
    needed=["nextRetryAt"],
    answers=DeliveryAnswer,
    shape=delivery,
    refusals=[Code.DELIVERY_UNKNOWN, Code.DELIVERY_DONE],
)
async def retry_hook_delivery(call: Call, id: str) -> DeliveryRow:
    """Try a delivery that has not arrived again, at once and in the same record.

    One that waits for an earlier delivery of its run goes on waiting.
    """
    return await call.parts.hooks.deliveries.retry(call.principal, id)


@noun.post(
    "/v1/hook-deliveries/{id}/replay",
    permission="hook:write",
    reads="hook:read",
    needed=["nextRetryAt"],
    answers=DeliveryAnswer,
    shape=delivery,
    refusals=[Code.DELIVERY_UNKNOWN, Code.DELIVERY_DONE],
)
async def replay_hook_delivery(call: Call, id: str) -> DeliveryRow:
    """Send the same event again as a new delivery, whatever became of the old one."""
    return await call.parts.hooks.deliveries.replay(call.principal, id)
