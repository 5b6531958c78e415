"""`/healthz` and `/readyz`: liveness and readiness."""

from __future__ import annotations

from typing import Literal

from dustrun.api.auth import PUBLIC
from dustrun.api.routing import Call, Routes
from dustrun.core.values.fields import Fields
from dustrun.errors import Temporary

routes = Routes("Health")
router = routes.router


class Health(Fields):
    """State of the process."""

    status: Literal["ok", "ready"]


@routes.get("/healthz", permission=PUBLIC, answers=Health)
async def get_health(call: Call) -> dict[str, str]:
    """Check liveness: the process answers."""
    return {"status": "ok"}


@routes.get("/readyz", permission=PUBLIC, answers=Health)
async def get_readiness(call: Call) -> dict[str, str]:
    """Check readiness: 503 while the server starts or stops."""
    if not call.parts.status.is_ready:
        raise Temporary("The server is not ready.", retry_after_s=1)
    return {"status": "ready"}
