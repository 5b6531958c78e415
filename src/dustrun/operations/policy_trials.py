"""Routes under `/v1/wallets/{id}/policy`: what a policy would have said, and would say. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dustrun import clock
from dustrun.core.money.policy.document import OneAsset, Units, WalletPolicy
from dustrun.core.values.amounts import Asset
from dustrun.core.values.fields import Fields
from dustrun.errors import Code
from dustrun.operations.declaration.answers import Answer, From, Time
from dustrun.operations.declaration.encoding import as_it_is
from dustrun.operations.declaration.fields import Text
from dustrun.operations.declaration.operation import Noun
from dustrun.operations.declaration.parts import Call
from dustrun.operations.shapes.wallets import EXAMPLE_ADDRESS, EXAMPLE_POLICY, Address
from dustrun.operations.wallets import WalletId
from dustrun.services.preview.policy_replay import Outcome
from dustrun.services.preview.policy_trials import JudgedSpend, Payment, PolicyReplay, SaidReason, TriedPayment
from dustrun.storage.money.transactions import TransactionRow

noun = Noun("Wallets")

_WORDS: dict[Outcome, str] = {"allow": "allowed", "ask": "asked", "deny": "refused"}
Word = Literal["allowed", "asked", "refused"]
_UNKNOWN = [Code.WALLET_UNKNOWN]


def _word(found: TriedPayment) -> str:
    return _WORDS[found.outcome]


class ReplayBody(Fields):
    """The policy to hold against what was spent."""

    policy: WalletPolicy | None = Field(None, description="Default: the policy in force.")
    only: Literal["all", "changed"] = Field("all", description="`changed`: list only what it would decide otherwise.")
    limit: int = Field(100, ge=1, le=1000, description="At most so many are listed; all are counted.")


class SaidReasonAnswer(Answer):
    """A reason, and the policy's sentence that says it."""

    statement: str = Field(examples=["limits[0]"])
    message: str
    sentence: str | None = Field(
        description="Null: no sentence of the policy allows it; or the key may not read wallets."
    )


class ReplayedSpend(Answer):
    """A transaction or signature that a policy decided on."""

    id: str
    kind: Literal["transaction", "signature"]
    about: str
    at: Time = Field(description="When it was decided.")
    run_id: str | None
    workflow_id: str | None
    path: str | None
    was: Word = Field(description="What was decided then; `asked`, whatever the person answered.")
    would_be: Word
    reasons: list[SaidReasonAnswer] = Field(description="Why it would be asked or refused.")


class ReplayAnswer(Answer):
    """The verdicts that a policy would have given."""

    wallet_id: str
    since: Time = Field(description="The time of the first spend judged, 30 days ago if all are.")
    is_whole: bool = Field(description="False: there were more than 1,000 spends, and the newest of them are judged.")
    judged: int = Field(description="`asBefore` and the other three.")
    as_before: int
    now_allowed: int
    now_asked: int
    now_refused: int
    items: list[ReplayedSpend] = Field(description="Newest first.")
    left_out: int = Field(description="How many more `limit` keeps from the list.")
    not_judged: list[str] = Field(
        description="Statements that only the moment itself decides: what was decided by them stays as it was.",
        examples=[["sources", "outflow"]],
    )
    priced_now: int = Field(description="Of how many no price was recorded: today's counts.")


class TryPaymentBody(Fields):
    """A payment that nobody makes."""

    asset: OneAsset = Field(description="The asset.", examples=["eip155:8453/native"])
    amount: Units = Field(description="Base units.", examples=["1000000000000000"])
    recipient: Address = Field(description="Who is paid.")
    workflow_id: Annotated[Text, StringConstraints(max_length=128)] | None = Field(
        None, description="The workflow that pays, for limits that depend on it."
    )
    policy: WalletPolicy | None = Field(None, description="Default: the policy in force.")


class TriedPaymentAnswer(Answer):
    """The verdict that the policy would give now."""

    outcome: Annotated[Word, From(_word)]
    reasons: list[SaidReasonAnswer] = Field(description="What allows it, asks or refuses.")
    not_judged: list[str] = Field(
        description="Statements that are judged only when it is really made.", examples=[["sources", "outflow", "fee"]]
    )


def _replayed(found: PolicyReplay, body: ReplayBody) -> dict[str, Any]:
    changed = [one for one in found.judged if one.now != one.decided]
    counts = Counter(one.now for one in changed)
    listed = changed if body.only == "changed" else found.judged
    return {
        "walletId": found.wallet_id,
        "since": clock.to_rfc3339(found.since_ms),
        "isWhole": found.is_whole,
        "judged": len(found.judged),
        "asBefore": len(found.judged) - len(changed),
        "nowAllowed": counts["allow"],
        "nowAsked": counts["ask"],
        "nowRefused": counts["deny"],
        "items": [_item(one) for one in listed[: body.limit]],
        "leftOut": max(len(listed) - body.limit, 0),
        "notJudged": list(found.not_judged),
        "pricedNow": found.priced_now,
    }


def _item(one: JudgedSpend) -> dict[str, Any]:
    row = one.row
    return {
        "id": row.id,
        "kind": "transaction" if isinstance(row, TransactionRow) else "signature",
        "about": one.about,
        "at": clock.to_rfc3339(one.at_ms),
        "runId": row.run_id,
        "workflowId": row.workflow_id,
        "path": row.path,
        "was": _WORDS[one.decided],
        "wouldBe": _WORDS[one.now],
        "reasons": _reasons(one.reasons),
    }


def _reasons(reasons: Sequence[SaidReason]) -> list[dict[str, Any]]:
    return [{"statement": one.statement, "message": one.message, "sentence": one.sentence} for one in reasons]


@noun.post(
    "/v1/wallets/{id}/policy/replay",
    permission="transaction:read",
    answers=ReplayAnswer,
    shape=as_it_is,
    refusals=_UNKNOWN,
    example={"policy": EXAMPLE_POLICY, "only": "changed"},
)
async def replay_wallet_policy(call: Call, id: WalletId, body: ReplayBody) -> dict[str, Any]:
    """Tell what a policy would have said of the wallet's spends in the last 30 days.

    They are judged in order by the prices of that time, and what counts toward the limits is added up anew: what would
    be allowed or asked counts, what would be refused does not. Nothing is written.
    """
    found = await call.parts.money.policy_trials.replay(call.principal, id, body.policy)
    return _replayed(found, body)


@noun.post(
    "/v1/wallets/{id}/policy/try-payment",
    permission="wallet:read",
    answers=TriedPaymentAnswer,
    refusals=_UNKNOWN,
    example={"asset": "eip155:8453/native", "amount": "1000000000000000", "recipient": EXAMPLE_ADDRESS},
)
async def try_payment(call: Call, id: WalletId, body: TryPaymentBody) -> TriedPayment:
    """Tell what a policy would say of one payment now, and why.

    Nothing is reserved, written or simulated.
    """
    payment = Payment(Asset.parse(body.asset), int(body.amount), body.recipient, body.workflow_id)
    return await call.parts.money.policy_trials.payment(call.principal, id, payment, body.policy)
