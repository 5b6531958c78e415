"""`/healthz` and `/readyz`: whether the process lives, and whether it takes work."""

from __future__ import annotations

from typing import Literal

from dustrun.api.auth import PUBLIC
from dustrun.api.routing import Call, Routes
from dustrun.core.values.fields import Fields
from dustrun.errors import Temporary

routes = Routes("Health")
router = routes.router


class Health(Fields):
    """How the process is."""

    status: Literal["ok", "ready"]


@routes.get("/healthz", permission=PUBLIC, answers=Health)
async def get_health(call: Call) -> dict[str, str]:
    """Tell that the process lives."""
    return {"status": "ok"}


@routes.get("/readyz", permission=PUBLIC, answers=Health)
async def get_readiness(call: Call) -> dict[str, str]:
    """Tell that the server takes work; 503 while it starts or stops."""
    if not call.parts.status.is_ready:
        raise Temporary("The server is not ready.", retry_after_s=1)
    return {"status": "ready"}
