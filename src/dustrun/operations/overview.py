"""`/v1/overview`: what happened since a time, in figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dustrun.core.run.state import Mode, RunStatus
from dustrun.operations.declaration.answers import MADE, Answer, From, Time
from dustrun.operations.declaration.fields import Instant, moment_ms
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.runs import CountsAnswer
from dustrun.records import dataclass
from dustrun.services import attention
from dustrun.services.triggers.trying import NextRun
from dustrun.services.wallets.ledger import LedgerOutflow
from dustrun.storage.data.attention import AttentionItem, Kind
from dustrun.storage.runs.run_lists import RunFilters

noun = Noun("Runs")
_NEXT = 5


class MovedAnswer(Answer):
    """The amounts that left the wallets for others, and the network fees, in US dollars."""

    usd: str
    fees_usd: str
    payments: int
    unpriced: int = Field(description="How many of the payments have no known price, and are not in `usd`.")
    is_partial: bool = Field(description="Whether there were more than 5000 payments and fees: only the newest are in.")


class NextRunAnswer(Answer):
    """A run that a schedule will start."""

    workflow_id: str
    workflow_name: str
    at: Time


class AttentionAnswer(Answer):
    """Something that does not mend itself, or has not yet."""

    kind: Literal["disk-low"] | Kind
    id: str | None = Field(
        description="The run's of a payment, the workflow's of a trigger, else the connector's or hook's; null for a "
        "disk and a payment of no run."
    )
    wallet_id: str | None = Field(description="Of a payment.")
    name: str = Field(description="The workflow's, connector's or hook's.")
    since: Time
    message: Annotated[str, From("why")]


class OverviewAnswer(Answer):
    """The activity since a time. What the key may not see is null."""

    since: Time
    runs: Annotated[CountsAnswer, From(_counts), MADE] = Field(description="Live runs that started since, by status.")
    moved: MovedAnswer | None = Field(description="By the final transactions of live runs; null without "
        "`transaction:read`.")  # fmt: skip
    next: list[NextRunAnswer] | None = Field(
        description="The next runs by published schedules, soonest first, at most 5; null without `workflow:read`."
    )
    attention: list[AttentionAnswer] = Field(
        description="What needs a person now, whenever it began, worst first, at most 50. A disk that fills up is "
        "shown to keys with `metrics:read`."
    )


@dataclass(frozen=True, slots=True)
class _Overview:
    since: int
    counts: dict[str, int]
    moved: LedgerOutflow | None
    next: list[NextRun] | None
    attention: list[AttentionItem]


def _counts(overview: _Overview) -> dict[str, int]:
    found = overview.counts
    return {**{status.value: found.get(status.value, 0) for status in RunStatus}, "total": sum(found.values())}


@noun.get("/v1/overview", permission="run:read", answers=OverviewAnswer)
async def get_overview(call: Call, since: Annotated[Instant, Field(description="From this instant on.")]) -> _Overview:
    """Get what happened since a time: live runs by status, what they paid, what runs next, and what needs attention.

    `GET /v1/approvals` has what waits for a person, `GET /v1/runs` the runs themselves.
    """
    principal, parts, at = call.principal, call.parts, moment_ms(since)
    counts = await parts.runs.count(principal, RunFilters(since=at, modes=(Mode.LIVE.value,)))
    moved = await parts.money.ledger.moved_since(principal, at) if principal.may("transaction:read") else None
    coming = await parts.triggers.previews.soonest(principal, _NEXT) if principal.may("workflow:read") else None
    needed = await attention.list_for(principal, parts.database, parts.settings.data_dir)
    return _Overview(at, counts, moved, coming, needed)
