"""The tools that a turn offers to its model: the same that MCP offers, given by whoever has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Protocol

from dustrun.records import dataclass
from dustrun.sdk.llm.messages import ToolOffer
from dustrun.services.access.principal import Principal
from dustrun.storage.db.statement import Tx

_PERMISSIONS: Final = (
    "workflow:read",
    "workflow:create",
    "workflow:update",
    "workflow:simulate",
    "run:read",
    "run:inline",
    "wallet:read",
    "chat:read",
    "chat:write",
)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool's answer, as the model reads it. `waits`: a person was asked, whose decision is the answer."""

    ok: bool
    text: str
    waits: bool = False


@dataclass(frozen=True, slots=True)
class LaunchQuestion:
    """A launch that a person decides about."""

    approval_id: str
    binding: str
    run_id: str
    mode: str
    rehearsal_run_id: str
    expires_at: int


OnQuestion = Callable[[Tx, LaunchQuestion], None]
"""Writes what follows from a question, in the transaction that stores it."""


class Toolbox(Protocol):
    """Tools by name."""

    def offers(self, principal: Principal) -> list[ToolOffer]:
        """The tools that the principal may call."""
        ...

    async def call(
        self, principal: Principal, tool: str, args: dict[str, Any], message_id: str, on_question: OnQuestion
    ) -> ToolResult:
        """Calls a tool; a failure is a result, too. Runs that it starts belong to the message. One that asks a person
        calls `on_question`, and its result `waits`."""
        ...


def narrowed(principal: Principal) -> Principal:
    """The assistant of a key: within its rights, workflows and wallets, and without any right to write or spend."""
    return replace(principal, permissions=frozenset(filter(principal.may, _PERMISSIONS)))
