"""The tools: what each is called, needs and takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from dustrun.api.mcp import drafting, inputs, running
from dustrun.api.mcp.drafting import checked
from dustrun.api.mcp.result import Result
from dustrun.core.values.fields import Fields
from dustrun.errors import Forbidden
from dustrun.operations.declaration.parts import Parts
from dustrun.records import dataclass
from dustrun.sdk.threads import run_sized
from dustrun.services.access.principal import Principal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `needs`: permissions of which a key must have one; the work itself checks the rest."""

    name: str
    about: str
    needs: tuple[str, ...]
    takes: type[Fields]
    work: Callable[[Parts, Principal, Any], Awaitable[Result]]
    is_reading: bool = True

    def is_for(self, principal: Principal) -> bool:
        """Whether the key may call it."""
        return any(map(principal.may, self.needs))

    def need(self, principal: Principal) -> None:
        """Raises `Forbidden` if the key may not call it."""
        if not self.is_for(principal):
            wanted = " or ".join(f'"{name}"' for name in self.needs)
            raise Forbidden(f"The key lacks the permission {wanted}.")

    async def call(self, parts: Parts, principal: Principal, arguments: Json) -> str:
        """The result as text; raises what the services raise."""
        self.need(principal)
        asked = await run_sized(arguments, checked, self.takes, arguments)
        found = await self.work(parts, principal, asked)
        return await run_sized([found.own, found.untrusted], found.text)


_READ: Final = ("workflow:read",)
TOOLS: Final = {
    one.name: one
    for one in (
        Tool(
            "search_nodes",
            "Node types of workflows, one line each: type (effect): summary.",
            _READ,
            inputs.SearchNodes,
            drafting.search_nodes,
        ),
        Tool(
            "describe_nodes",
            "Node types in full: payload schema, result schema, notes, example.",
            _READ,
            inputs.DescribeNodes,
            drafting.describe_nodes,
        ),
        Tool("list_workflows", "Saved workflows.", _READ, inputs.ListWorkflows, drafting.list_workflows),
        Tool("get_workflow", "A workflow with its definition.", _READ, inputs.GetWorkflow, drafting.get_workflow),
        Tool(
            "validate_workflow",
            "All problems of a definition, without saving it.",
            _READ,
            inputs.ValidateWorkflow,
            drafting.validate_workflow,
        ),
        Tool(
            "save_workflow",
            "Saves a draft: a new workflow, or a new draft version of one. Never publishes.",
            ("workflow:create", "workflow:update"),
            inputs.SaveWorkflow,
            drafting.save_workflow,
            is_reading=False,
        ),
        Tool(
            "simulate",
            "Dry run: sends no write and no transaction, reads for real. Says what would happen.",
            ("workflow:simulate",),
            inputs.Simulate,
            running.simulate,
            is_reading=False,
        ),
        Tool(
            "get_report",
            "What a run did or would do: summary, effects, nodes, or compared with another run.",
            ("run:read",),
            inputs.GetReport,
            running.get_report,
        ),
        Tool(
            "explain_spend",
            "Why this amount, why this recipient: what shaped each spend of a run or version, and what decided it.",
            ("run:read", "workflow:read"),
            inputs.ExplainSpend,
            running.explain_spend,
        ),
        Tool(
            "policy_sentences",
            "What a wallet may do, in sentences; or sentences as a policy, read back. Stores nothing: a person does.",
            ("wallet:read", "workflow:read"),
            inputs.ReadPolicy,
            running.policy_sentences,
        ),
        Tool("list_runs", "Runs, newest first.", ("run:read",), inputs.ListRuns, running.list_runs),
        Tool(
            "launch",
            "Proposes a real run, as its simulation showed it. A person decides on the page, unless the key may.",
            ("workflow:simulate",),
            inputs.Launch,
            running.launch,
            is_reading=False,
        ),
    )
}
