"""`/v1/hooks/deliveries`: what was sent to hooks, and how it went."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

from dustrun.api.routing import Call, Routes
from dustrun.api.shapes.hooks import DeliveryAnswer, delivery
from dustrun.api.shapes.wire import PageAnswer, Paged, Text, page_shape
from dustrun.errors import Code
from dustrun.services.access.paging import Page
from dustrun.storage.hooks.deliveries import DeliveryRow, Filters

routes = Routes("Hooks")
router = routes.router


@routes.get(
    "/v1/hooks/deliveries",
    permission="hook:read",
    answers=PageAnswer[DeliveryAnswer],
    shape=page_shape(delivery),
)
async def list_hook_deliveries(
    call: Call,
    paging: Paged,
    endpoint_id: Annotated[Text | None, Query(alias="endpointId", description="Only of this hook.")] = None,
    run_id: Annotated[Text | None, Query(alias="runId", description="Only of this run.")] = None,
    status: Annotated[
        Literal["pending", "retrying", "success", "failure"] | None, Query(description="Only in this status.")
    ] = None,
) -> Page[DeliveryRow]:
    """List deliveries, newest first. The setting `hook_delivery_days` says how long they are kept."""
    filters = Filters(endpoint_id, status, run_id)
    return await call.parts.hooks.deliveries.list_page(call.principal, filters, paging)


@routes.get(
    "/v1/hooks/deliveries/{id}",
    permission="hook:read",
    answers=DeliveryAnswer,
    shape=delivery,
    refusals=[Code.DELIVERY_UNKNOWN],
)
async def get_hook_delivery(call: Call, id: str) -> DeliveryRow:
    """Get one delivery, with its attempts."""
    return await call.parts.hooks.deliveries.get(call.principal, id)


@routes.post(
    "/v1/hooks/deliveries/{id}/retry",
    permission="hook:write",
    answers=DeliveryAnswer,
    shape=delivery,
    refusals=[Code.DELIVERY_UNKNOWN, Code.DELIVERY_DONE],
)
async def retry_hook_delivery(call: Call, id: str) -> DeliveryRow:
    """Try a delivery that has not arrived again, at once and in the same record.

    One that waits for an earlier delivery of its run goes on waiting.
    """
    return await call.parts.hooks.deliveries.retry(call.principal, id)


@routes.post(
    "/v1/hooks/deliveries/{id}/replay",
    permission="hook:write",
    answers=DeliveryAnswer,
    shape=delivery,
    refusals=[Code.DELIVERY_UNKNOWN, Code.DELIVERY_DONE],
)
async def replay_hook_delivery(call: Call, id: str) -> DeliveryRow:
    """Send the same event again as a new delivery, whatever became of the old one."""
    return await call.parts.hooks.deliveries.replay(call.principal, id)
