"""`/healthz` and `/readyz`: liveness and readiness."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from dustrun.errors import Temporary
from dustrun.operations.declaration.answers import Answer
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.operation import PUBLIC, Noun
from dustrun.operations.declaration.parts import Call

noun = Noun("Health")


class Health(Answer):
    """State of the process."""

    status: Literal["ok", "ready"]


class Readiness(Answer):
    """The readiness of the process."""

    status: Literal["ok", "ready"]
    roles: list[Literal["api", "engine", "triggers"]] | None = Field(
        None, description="What this process does, if others share its store."
    )
    waits_for: str | None = Field(
        None, description="What it waits for, if not all of its roles can work now; calls are answered meanwhile."
    )


@noun.get("/healthz", permission=PUBLIC, answers=Health, shape=as_it_is)
async def get_health(call: Call) -> dict[str, str]:
    """Check liveness: the process answers."""
    return {"status": "ok"}


@noun.get("/readyz", permission=PUBLIC, answers=Readiness, shape=as_it_is)
async def get_readiness(call: Call) -> dict[str, Any]:
    """Check readiness: 503 while the server starts or stops, and while a process without the role `api` cannot work."""
    status, settings = call.parts.status, call.parts.settings
    if not status.is_ready:
        raise Temporary("The server is not ready.", retry_after_s=1)
    if not settings.is_shared:
        return {"status": "ready"}
    waits_for = status.waits_for()
    if waits_for is not None and "api" not in settings.roles:
        raise Temporary(waits_for, retry_after_s=1)
    found = {"status": "ready", "roles": sorted(settings.roles)}
    return found if waits_for is None else {**found, "waitsFor": waits_for}
