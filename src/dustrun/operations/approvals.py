"""`/v1/approvals`: questions that wait for a person's decision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun.core.run.state import Mode
from dustrun.core.values.exact_json import loads
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import MADE, STORED, Answer, From, PageAnswer, Time, page_shape, time
from dustrun.operations.declaration.encoding import data_of
from dustrun.operations.declaration.fields import ANY_OF, Commas, Paged, Text
from dustrun.operations.declaration.operation import Named, Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.sources import SpendSourcesAnswer
from dustrun.services.access.paging import Page
from dustrun.services.runs.approvals import APPROVED, REJECTED, votes_of
from dustrun.services.runs.launching.decision import DecidedLaunch
from dustrun.services.wallets.asked_spends import AskedSpend
from dustrun.storage.runs.approvals import ApprovalRow

noun = Noun("Approvals")

Status = Literal["pending", "approved", "rejected", "timed_out", "cancelled"]
ApprovalId = Annotated[str, Named("id"), Field(description="Id of the approval.", max_length=64)]
Listed = tuple[ApprovalRow, str, str | None]
Detailed = tuple[ApprovalRow, list[dict[str, Any]], str | None]
Comment = Annotated[Text, StringConstraints(max_length=2000)]
_REFUSAL = "Why the caller could not approve it; null if nothing is against it, or it is no longer open."
_REFUSALS = [Code.PASSKEY_NEEDED, Code.APPROVAL_UNKNOWN, Code.APPROVAL_DECIDED]
_OF_APPROVING = [*_REFUSALS, Code.BINDING_MISMATCH, Code.REHEARSAL_MISMATCH]


class DecideBody(Fields):
    """The decision's comment."""

    comment: Comment | None = Field(None, description="Reason, shown in the node's result.")


class ApproveBody(DecideBody):
    """The decision's comment, and what it is about."""

    binding: str | None = Field(
        None,
        max_length=128,
        description="The approval's `binding`, as you saw it: another one is refused. A launch needs it.",
    )


class LaunchAnswer(Answer):
    """The run that an approved launch starts."""

    version: int
    run_id: str = Field(description="The run that the approval starts; it exists once it is approved.")
    rehearsal_run_id: str = Field(description="The simulation that showed what the run does.")
    proposed_by: str = Field(description="Id of the key that proposed it.")


class VoteAnswer(Answer):
    """One of several approvals that a question needs."""

    by: str = Field(description="Id of the key.")
    at: Time
    comment: str | None


class ApprovalAnswer(Answer):
    """A question to a person, and the decision."""

    id: str = Field(examples=["apr_0f3a9c1b2d4e5f60718293a4b5"])
    kind: Annotated[Literal["node", "spend", "launch"], From(_kind)] = Field(
        description="An `approve` node asks, a spend that the wallet's policy asks about, or the start of a run."
    )
    run_id: str = Field(description="The run that asks; of a launch, its rehearsal.")
    workflow_id: Annotated[str, From(lambda one: one.workflow_id or "")] = Field(description="Empty for an inline run.")
    workflow_name: str
    node_id: Annotated[str, From(lambda one: one.path.rpartition(".")[2])]
    path: str = Field(description="The node's path; it names loop items.")
    message: str
    approvers: Annotated[list[str], STORED] = Field(
        description="Ids of the keys that may decide; empty: every key with the permission."
    )
    mode: Mode
    status: Status
    created_at: Time
    expires_at: Time
    decided_at: Time | None
    decided_by: str | None = Field(description="Id of the key, or `link`.")
    comment: str | None
    binding: str | None = Field(
        description="SHA-256 over what is approved. Of a spend: chain, from, to, value, calldata and fee ceiling. Of a "
        "launch: workflow, version, mode, payload, values, rehearsal and its report."
    )
    launch: Annotated[LaunchAnswer | None, From(_launch), MADE] = Field(description="Of a launch: what it starts.")
    quorum: Annotated[int, From(lambda one: one.quorum or 1)] = Field(
        description="How many keys must approve it, no two of them one hand."
    )
    votes: Annotated[list[VoteAnswer], From(_votes), MADE] = Field(
        description="Those that have approved it, if it needs several; oldest first. Votes of keys that were revoked "
        "or have expired since do not count, and are left out."
    )


class ListedApproval(ApprovalAnswer):
    """A question to a person, with why it is asked in a sentence, and whether the caller could approve it."""

    refusal: str | None = Field(description=_REFUSAL)
    why: str = Field(
        description="Of a spend that a policy with `sources` judged: what from outside shaped who is paid and how "
        "much, of which `GET /v1/approvals/{id}` has all. Of others: what asks, a step, a limit, or who proposed it.",
        examples=["who is paid: the answer of api.example.com; how much: what its starter gave"],
    )


class ApprovalDetail(ApprovalAnswer):
    """A question to a person, with what shaped the spends that it is about."""

    sources: list[SpendSourcesAnswer] = Field(
        description="Why this amount, why this recipient: of the spend that asks; of a launch, those of the rehearsal; "
        "else those that the run came to, or before that, the first 50 that its version can make."
    )
    refusal: str | None = Field(description=_REFUSAL)


class AskedAmount(Answer):
    """An amount of one asset."""

    asset: str = Field(examples=["eip155:8453/native"])
    symbol: str | None = Field(description="By the network's file; null for other tokens, which can call themselves "
        "anything.")  # fmt: skip
    amount: str = Field(description="Base units.")
    amount_formatted: str | None = Field(description="Whole units; null if the decimals are not known.")
    usd: str | None = Field(description="Worth in dollars now; null without a price.")


class AskedMovementAnswer(AskedAmount, of="of"):
    """A movement of a spend out of the wallet, or an allowance that it would give."""

    kind: Literal["send", "approve"]
    counterparty: str = Field(description="The recipient, or the spender of an allowance.")
    of_swap: bool = Field(description="Whether it is a swap's own allowance, which is counted with the swap.")


class AskedSpendAnswer(Answer):
    """One transaction or signature that a question is about."""

    kind: Literal["transaction", "message", "typed-data"]
    about: str
    chain_id: int | None
    wallet_id: str
    to: str | None = Field(description="Who is called or paid; null for a signature or a new contract.")
    method: str | None
    is_decoded: bool = Field(description="Whether `movements` is all that it moves.")
    movements: list[AskedMovementAnswer]
    fee: AskedAmount | None = Field(description="The network fee, at most; null for a signature.")
    reasons: Annotated[list[str], MADE] = Field(description="Why a person is asked.")


class AskedSpends(Answer):
    """The spends that a question is about."""

    items: Annotated[list[AskedSpendAnswer], From(lambda found: found)]


def _kind(row: ApprovalRow) -> str:
    return "launch" if row.launch is not None else "node" if row.binding is None else "spend"


def _launch(row: ApprovalRow) -> dict[str, Any] | None:
    launch = loads(row.launch) if row.launch is not None else None
    shown = ("version", "runId", "proposedBy")
    return None if launch is None else {**{name: launch[name] for name in shown}, "rehearsalRunId": row.run_id}


def _votes(row: ApprovalRow) -> list[dict[str, Any]]:
    return [{**one, "at": time(one["at"])} for one in votes_of(row)]


def _detail(found: Detailed) -> dict[str, Any]:
    return data_of(ApprovalAnswer, found[0]) | {"sources": found[1], "refusal": found[2]}


def _listed(found: Listed) -> dict[str, Any]:
    return data_of(ApprovalAnswer, found[0]) | {"why": found[1], "refusal": found[2]}


def _row_of(result: ApprovalRow | DecidedLaunch) -> ApprovalRow:
    return result.row if isinstance(result, DecidedLaunch) else result


@noun.get("/v1/approvals", permission="run:read", answers=PageAnswer[ListedApproval], shape=page_shape(_listed))
async def list_approvals(
    call: Call,
    paging: Paged,
    statuses: Annotated[
        list[Status] | None,
        Commas,
        Named("status"),
        Field(description=f"Statuses, {ANY_OF}; default: the open ones."),
    ] = None,
    run_id: Annotated[
        str | None, Named("runId"), Field(max_length=128, description="Only questions of this run; see `runId` of one.")
    ] = None,
) -> Page[Listed]:
    """List approval questions, newest first."""
    wanted = statuses if statuses is not None else ["pending"]
    return await call.parts.waits.approvals.list_page(call.principal, wanted, paging, run_id)


@noun.get(
    "/v1/approvals/{id}",
    permission="run:read",
    answers=ApprovalDetail,
    shape=_detail,
    refusals=[Code.APPROVAL_UNKNOWN],
)
async def get_approval(call: Call, approval_id: ApprovalId) -> Detailed:
    """Get an approval question and its decision, with what shaped the spends that it is about."""
    asked = await call.parts.waits.approvals.get(call.principal, approval_id)
    refusal = await call.parts.waits.approvals.why_not(call.principal, asked)
    return asked, await call.parts.run_reports.sources_asked(call.principal, asked), refusal


@noun.get(
    "/v1/approvals/{id}/spends",
    permission="run:read",
    answers=AskedSpends,
    refusals=[Code.APPROVAL_UNKNOWN],
)
async def get_approval_spends(call: Call, approval_id: ApprovalId) -> list[AskedSpend]:
    """Get what a question about spends would move, in whole units and in dollars of now.

    The first 50 transactions and signatures; none for questions of `approve` nodes and of launches. The question's
    `message` and `binding` say exactly what is approved."""
    asked = await call.parts.waits.approvals.get(call.principal, approval_id)
    return await call.parts.money.asked_spends.of(asked) if asked.binding and asked.launch is None else []


@noun.post(
    "/v1/approvals/{id}/approve",
    permission="approval:decide",
    reads="run:read",
    needed=["decidedBy", "launch"],
    answers=ApprovalAnswer,
    refusals=_OF_APPROVING,
    example={"comment": "As agreed"},
)
async def approve_approval(call: Call, approval_id: ApprovalId, body: ApproveBody | None = None) -> ApprovalRow:
    """Approve; the node continues with its `approved` children, and a launch starts its run.

    Approving a launch also needs `workflow:execute`, `wallet:spend` on the wallets of the workflow, and the
    `binding`. The run starts under this key, in the transaction that stores the decision."""
    comment, binding = (body.comment, body.binding) if body is not None else (None, None)
    call.answer_around(_row_of)
    return await call.parts.waits.approvals.decide(call.principal, approval_id, APPROVED, comment, binding)


@noun.post(
    "/v1/approvals/{id}/reject",
    permission="approval:decide",
    reads="run:read",
    needed=["decidedBy", "launch"],
    answers=ApprovalAnswer,
    refusals=_REFUSALS,
    example={"comment": "Not to this address"},
)
async def reject_approval(call: Call, approval_id: ApprovalId, body: DecideBody | None = None) -> ApprovalRow:
    """Reject; the node continues with its `rejected` children, and a launch starts nothing."""
    comment = body.comment if body is not None else None
    return await call.parts.waits.approvals.decide(call.principal, approval_id, REJECTED, comment)
