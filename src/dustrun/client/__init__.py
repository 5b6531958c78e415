"""A client of a Dustrun server for Python programs: start runs, follow their events, wait for what came of them.

`Client` blocks, `AsyncClient` awaits; both do the same. Nothing here imports a part of the server.
"""

from __future__ import annotations

from dustrun.client.async_client import AsyncClient, AsyncRun
from dustrun.client.client import Client, Run
from dustrun.client.errors import (
    ClientError,
    Conflict,
    FieldProblem,
    Forbidden,
    Invalid,
    NotFound,
    RunFailed,
    RunIdUsed,
    ServerError,
    StillRunning,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from dustrun.client.outcomes import Event, Outcome
from dustrun.client.run_calls import Mode

__all__ = [
    "AsyncClient",
    "AsyncRun",
    "Client",
    "ClientError",
    "Conflict",
    "Event",
    "FieldProblem",
    "Forbidden",
    "Invalid",
    "Mode",
    "NotFound",
    "Outcome",
    "Run",
    "RunFailed",
    "RunIdUsed",
    "ServerError",
    "StillRunning",
    "TooMany",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
]
