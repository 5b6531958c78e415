"""The tools that a turn offers to its model: the same that MCP offers, given by whoever has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from dustrun.sdk.llm.messages import ToolOffer
from dustrun.services.access.principal import Principal

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
    """What a tool answered, as the model reads it."""

    ok: bool
    text: str


class Toolbox(Protocol):
    """Tools by name."""

    def offers(self, principal: Principal) -> list[ToolOffer]:
        """The tools that the principal may call."""
        ...

    async def call(self, principal: Principal, tool: str, args: dict[str, Any], message_id: str) -> ToolResult:
        """Calls a tool; a failure is a result, too. Runs that it starts belong to the message."""
        ...


def narrowed(principal: Principal) -> Principal:
    """The assistant of a key: within its rights, workflows and wallets, and without any right to write or spend."""
    return replace(principal, permissions=frozenset(filter(principal.may, _PERMISSIONS)))
