"""`/metrics`: metrics in the Prometheus format."""

from __future__ import annotations

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from dustrun.api import openapi
from dustrun.api.auth import admit
from dustrun.api.routing import RawRoute
from dustrun.operations.declaration.parts import parts_of
from dustrun.services import attention

PERMISSION = "metrics:read"


async def get_metrics(scope: Scope, receive: Receive, send: Send) -> None:
    """Get metrics in the Prometheus format.

    Metrics of the whole server, not of one organisation. With the setting `metrics_public`, no key is needed."""
    from dustrun.api import exposition  # slow import: only a server that is asked for metrics pays for it

    parts = parts_of(scope)
    if not parts.settings.metrics_public:
        await admit(parts, scope, PERMISSION)
    await attention.measure(parts.database, parts.settings.data_dir)
    text = await asyncio.to_thread(exposition.render, parts.status.gauges())
    await Response(text, media_type=exposition.CONTENT_TYPE)(scope, receive, send)


raw_routes = [RawRoute("/metrics", get_metrics, permission=PERMISSION)]


@openapi.later
def _describe() -> None:
    openapi.add(raw_routes[0], "Health", {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
