"""Approvals: pending questions to people, and their decisions."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from dustrun import clock
from dustrun.core.money.policy.document import ApprovalRules, read_policy
from dustrun.core.money.policy.verdict import read_stored
from dustrun.core.sources.report import in_a_sentence, shortened
from dustrun.core.stream_events import TRANSACTION
from dustrun.core.values.exact_json import dumps_text, loads
from dustrun.errors import Code, Conflict, Forbidden, NotFound
from dustrun.log import mask_links
from dustrun.services.access import audit, idempotency
from dustrun.services.access.api_keys import is_good, need_good
from dustrun.services.access.hands import administers, is_one_hand, need_person
from dustrun.services.access.paging import Page, Paging, page_of
from dustrun.services.access.passkeys.passkeys import need_passkey
from dustrun.services.access.principal import Principal
from dustrun.services.runs.engine_port import Engine, RunFacts
from dustrun.services.runs.launching.decision import Decision, check_binding
from dustrun.services.runs.launching.launches import Launches
from dustrun.services.streaming.broadcaster import Broadcaster
from dustrun.services.workflows.closure import Lookup
from dustrun.services.workflows.spend_gate import SpendGate
from dustrun.storage.access import keys as key_rows
from dustrun.storage.access import organizations
from dustrun.storage.db import facts
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.runs import approvals as rows
from dustrun.storage.runs import journal as journal_rows
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import APPROVED, PENDING, REJECTED, ApprovalRow
from dustrun.storage.runs.journal import Event
from dustrun.storage.runs.waits import is_answered

__all__ = [
    "APPROVED",
    "REJECTED",
    "Approvals",
    "check_other_hand",
    "decision_data",
    "id_of",
    "may_decide",
    "new_row",
    "votes_of",
    "with_good_votes",
]


_LONE = "An organisation of one person can allow it: PATCH /v1/organizations/{id} with singlePersonApproves true."


def id_of(org_id: str, run_pk: int, path: str, attempt: int) -> str:
    """The id of the question that an attempt of a node asks."""
    digest = hashlib.sha256(f"{org_id}\n{run_pk}\n{path}\n{attempt}".encode()).hexdigest()
    return f"apr_{digest[:26]}"


def new_row(
    facts: RunFacts,
    path: str,
    attempt: int,
    message: str,
    approvers: Sequence[str],
    at: int,
    until: int,
    barred_key: str | None,
) -> ApprovalRow:
    """A pending approval of an `approve` node, not to be decided with `barred_key` unless `approvers` names it."""
    return ApprovalRow(
        id=id_of(facts.org_id, facts.pk, path, attempt),
        org_id=facts.org_id,
        run_pk=facts.pk,
        run_id=facts.id,
        workflow_id=facts.workflow_id,
        workflow_name=facts.workflow_name,
        path=path,
        message=mask_links(message),
        approvers=dumps_text(list(approvers)),
        mode=facts.mode.value,
        status=PENDING,
        created_at=at,
        expires_at=until,
        barred_key=None if barred_key in approvers else barred_key,
    )


def decision_data(decision: str, comment: str | None, by: str, at: int) -> str:
    """A decision as the waiting node reads it."""
    return dumps_text({"data": {"decision": decision, "comment": comment}, "by": by, "at": at})


def may_decide(row: ApprovalRow, key_id: str) -> bool:
    """Whether the node's list of approvers lets a key decide."""
    approvers: list[Any] = loads(row.approvers)
    return not approvers or key_id in approvers


def votes_of(row: ApprovalRow) -> list[dict[str, Any]]:
    """The approvals of a question that needs several: `{by, at, comment}`, oldest first; only those that count."""
    return [one for one in loads(row.votes or "[]") if not one.get("lapsed")]


def approvers_of(row: ApprovalRow) -> list[str]:
    """Every key that approved a question, the one that decided it last; none if it is not approved."""
    if row.status != APPROVED:
        return []
    return [*dict.fromkeys([*(str(one["by"]) for one in votes_of(row)), *([row.decided_by] if row.decided_by else [])])]


def has_good_approvers(tx: Tx, row: ApprovalRow) -> bool:
    """Whether a question was approved, and the keys of all who did are good now."""
    approvers = approvers_of(row)
    return bool(approvers) and all(_is_good(tx, row.org_id, one) for one in approvers)


def with_good_votes(tx: Tx, row: ApprovalRow) -> ApprovalRow:
    """An open question, of whose votes only those count whose keys are good now: whoever replaces a stolen key revokes
    it, and would else have two votes, or the thief one. Of a closed question those count that did as it was closed."""
    votes = votes_of(row) if row.status == PENDING else []
    ended = {one["by"] for one in votes if not _is_good(tx, row.org_id, one["by"])}
    if not ended:
        return row
    given = [{**one, "lapsed": True} if one["by"] in ended else one for one in loads(row.votes or "[]")]
    return replace(row, votes=dumps_text(given))


def _why(row: ApprovalRow, verdict: str | None) -> str:
    """Why a person is asked, in a sentence: what shaped the spend, if the policy judged by that, else what asks."""
    if row.launch is not None:
        launch = loads(row.launch)
        by = "an assistant in a conversation" if launch["chatMessageId"] else f"the key {launch['proposedBy']}"
        return f"{by} asks to start it; a person must decide"
    if row.binding is None:
        return f"the step `{row.path.rpartition('.')[2]}` asks a person"
    stored, sources = read_stored(verdict)
    if sources is not None:
        return in_a_sentence(sources)
    reasons = dict.fromkeys(str(one["message"]) for one in (stored or {}).get("reasons", ()))
    return shortened(" ".join(reasons)) or "the wallet's policy asks a person"


def _is_good(tx: Tx, org_id: str, key_id: str) -> bool:
    key = key_rows.find(tx, org_id, key_id)
    return key is not None and is_good(key)


def check_other_hand(tx: Tx, principal: Principal, row: ApprovalRow) -> bool:
    """Who starts a run must not approve what it asks, unless the `approve` node says so: not with the same key, nor
    with one of the same hand. A key that an `approve` node names decides. Whether it is their own run, which an
    organisation of one person allows (`singlePersonApproves`). A service account decides nothing of this, whoever
    started the run and whatever the node names."""
    need_person(tx, principal, "decide what a run asks a person")
    starter, approvers = row.barred_key, loads(row.approvers)
    if starter is None or (row.binding is None and principal.key_id in approvers):
        return False
    is_same_key = principal.key_id == starter
    if not is_same_key and not is_one_hand(tx, principal.org_id, principal.key_id, starter):
        return False
    if is_single_person(tx, principal):
        need_passkey(tx, principal, "approve what your own run asks")
        return True
    mend = "; another one must" if row.binding is not None else ", unless the node has allowStarter; another one must"
    if is_same_key:
        raise Forbidden(f"The key that started the run cannot approve what the run asks{mend}. {_LONE}")
    raise Forbidden(
        "This key and the one that started the run are one hand: they are one person's, one made the other, or both "
        f"come from a key that is no administrator. It cannot approve what the run asks{mend}."
    )


def is_single_person(tx: Tx, principal: Principal) -> bool:
    """Whether the organisation has one person, who may approve what their own runs ask, and this key is theirs: it
    administers the organisation."""
    org, key = organizations.find(tx, principal.org_id), key_rows.find(tx, principal.org_id, principal.key_id)
    return org is not None and bool(org.single_person) and key is not None and administers(key)


def _check_votes(tx: Tx, principal: Principal, row: ApprovalRow) -> None:
    """Whoever approves must be another hand than those that have approved."""
    for one in votes_of(row):
        if is_one_hand(tx, principal.org_id, principal.key_id, one["by"]):
            raise Forbidden(f'This key and "{one["by"]}", which has approved it, are one hand; another must approve.')


class AskingRun(NamedTuple):
    """The run that asks."""

    pk: int
    id: str
    org_id: str
    workflow_id: str | None


def _tell_vote(tx: Tx, row: ApprovalRow, subject: rows.ApprovalSubject | None) -> list[Event]:
    """Writes that one of several has approved: an event of the run, and a fact."""
    votes, given = votes_of(row), loads(row.votes or "[]")
    last = votes[-1]
    facts.add(tx, row.org_id, "approval", row.id, "voted", last["at"], place=str(len(given)))
    if subject is None:
        return []
    data = {
        "nodeId": row.path.rpartition(".")[2],
        "path": row.path,
        "status": "voted",
        subject.name: subject.id,
        "item": subject.item,
        "chainId": subject.chain_id,
        "about": row.message,
        "approvalId": row.id,
        "by": last["by"],
        "votes": len(votes),
        "quorum": row.quorum,
    }
    written = [(TRANSACTION, last["at"], dumps_text(data))]
    return journal_rows.append_open(
        tx, run_pk=row.run_pk, org_id=row.org_id, workflow_id=row.workflow_id, written=written
    )


def _rules_in(tx: Tx, now_ms: int) -> Callable[[str], ApprovalRules | None]:
    """The rules of each wallet, read once."""

    @functools.cache
    def rules_of(wallet_id: str) -> ApprovalRules | None:
        policy = wallet_rows.find_policy(tx, wallet_id, now_ms)
        return read_policy(policy.document).approval if policy is not None else None

    return rules_of


def _refusals_for(tx: Tx, principal: Principal) -> Callable[[ApprovalRow], str | None]:
    """Why the caller could not approve a question now, so that nobody is offered what would be refused; None if it is
    not open, or nothing is known to be against it."""
    rules_of = _rules_in(tx, clock.now_ms())

    def refusal(row: ApprovalRow) -> str | None:
        if row.status != PENDING:
            return None
        try:
            principal.need("approval:decide")
            if row.launch is None:
                _check_named(tx, principal, row, rules_of)
                check_other_hand(tx, principal, row)
            _check_votes(tx, principal, row)
        except Forbidden as error:
            return error.message
        return None

    return refusal


def _check_named(
    tx: Tx, principal: Principal, row: ApprovalRow, rules_of: Callable[[str], ApprovalRules | None]
) -> tuple[rows.ApprovalSubject | None, ApprovalRules | None]:
    """The spend that a question is about, and the rules in force for it. Raises `Forbidden` for a key that
    the node, its own limits or the wallet's policy keep from deciding. `rules_of`: of a wallet."""
    if not may_decide(row, principal.key_id):
        raise Forbidden("The node names who may decide, and this key is not among them.")
    subject = rows.find_subject(tx, row) if row.binding is not None else None
    if subject is None:
        return None, None
    if not principal.may_use_wallet(subject.wallet_id):
        raise Forbidden(f'The key is limited to some wallets (walletIds); it decides nothing of "{subject.wallet_id}".')
    rules = rules_of(subject.wallet_id)
    if rules is not None and rules.approvers and principal.key_id not in rules.approvers:
        raise Forbidden("The wallet's policy names who may decide, and this key is not among them.")
    return subject, rules


def _strictest(tx: Tx, row: ApprovalRow, rules: ApprovalRules | None) -> ApprovalRow:
    """The question by the rules under which it was asked and by those in force now: as many hands as either wants."""
    if rules is None or rules.quorum <= (row.quorum or 1):
        return row
    rows.raise_quorum(tx, row.id, rules.quorum)
    return replace(row, quorum=rules.quorum)


def _get(tx: Tx, principal: Principal, approval_id: str) -> ApprovalRow:
    row = rows.find(tx, principal.org_id, approval_id)
    if row is None or not principal.may_use_workflow(row.workflow_id):
        raise NotFound(f'There is no approval "{approval_id}".', code=Code.APPROVAL_UNKNOWN)
    return row


class Approvals:
    """Lists and decides approvals."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        engine: Engine,
        launches: Launches,
        gate: SpendGate,
        hub: Broadcaster,
    ) -> None:
        self._database = database
        self._writer = writer
        self._gate = gate
        self._hub = hub
        self._engine = engine
        self._launches = launches

    async def list_page(
        self, principal: Principal, statuses: Sequence[str], paging: Paging, run_id: str | None = None
    ) -> Page[tuple[ApprovalRow, str, str | None]]:
        """The approvals of the organisation or of one run, newest first. Each says, in a sentence, why a person is
        asked, and why the caller could not approve it."""

        def query(tx: Tx) -> list[tuple[ApprovalRow, str, str | None]]:
            found = rows.list_page(
                tx,
                principal.org_id,
                statuses,
                paging.peek,
                paging.offset,
                run_id=run_id,
                only=principal.workflow_ids,
            )
            verdicts = rows.list_verdicts(tx, [one for one in found if one.binding is not None and one.launch is None])
            refusal = _refusals_for(tx, principal)
            good = [with_good_votes(tx, row) for row in found]
            return [(row, _why(row, verdicts.get(row.id)), refusal(row)) for row in good]

        return page_of(await self._database.read(query), paging)

    async def get(self, principal: Principal, approval_id: str) -> ApprovalRow:
        """One approval."""
        return await self._database.read(lambda tx: with_good_votes(tx, _get(tx, principal, approval_id)))

    async def why_not(self, principal: Principal, asked: ApprovalRow) -> str | None:
        """Why the caller could not approve an open question now."""
        return await self._database.read(lambda tx: _refusals_for(tx, principal)(asked))

    async def decide(
        self, principal: Principal, approval_id: str, decision: str, comment: str | None, binding: str | None = None
    ) -> ApprovalRow:
        """Records a person's decision and wakes the run, or starts it. `binding`: what the person has looked at."""
        asked = await self.get(principal, approval_id)
        if asked.launch is not None:
            return await self._launches.decide(principal, asked, Decision(decision, comment, binding))
        if asked.binding is None:
            await self._check_hand(principal, asked)

        told = list[Event]()

        def unit(tx: Tx) -> ApprovalRow:
            told.clear()
            need_good(tx, principal)
            row = _get(tx, principal, approval_id)
            check_binding(row, binding, is_needed=False)
            now = clock.now_ms()
            is_spend = row.binding is not None
            subject, rules = _check_named(tx, principal, row, _rules_in(tx, now))
            row = _strictest(tx, row, rules)
            # To reject a spend only stops it, which its starter may; the branch of an `approve` may spend.
            is_own = check_other_hand(tx, principal, row) if decision == APPROVED or not is_spend else False
            is_open = row.status == PENDING and now < row.expires_at and run_rows.goes_on(tx, row.run_pk)
            if not is_spend:
                is_open = row.status == PENDING and not is_answered(tx, row.run_pk, row.path)
            about = {"runId": row.run_id, "path": row.path, **({"ownRun": True} if is_own else {})}
            if is_open and decision == APPROVED and row.quorum is not None:
                before, row = row.votes, with_good_votes(tx, row)
                _check_votes(tx, principal, row)
                vote = {"by": principal.key_id, "at": now, "comment": comment}
                votes = dumps_text([*loads(row.votes or "[]"), vote])
                is_open, row, quorum = rows.vote(tx, row.id, before, votes), replace(row, votes=votes), row.quorum or 1
                count = len(votes_of(row))
                if is_open and count < quorum:
                    audit.record(tx, principal, "approval.vote", row.id, votes=count, quorum=quorum, **about)
                    told.extend(_tell_vote(tx, row, subject))
                    return _get(tx, principal, approval_id)
            if not is_open or not rows.close(tx, row.id, decision, now, principal.key_id, comment):
                shown = rows.find(tx, principal.org_id, approval_id)
                assert shown is not None
                message = f'The approval is no longer open (it is "{shown.status}").'
                raise Conflict(message, code=Code.APPROVAL_DECIDED)
            data = decision_data(decision, comment, principal.key_id, now)
            run_rows.add_signal(tx, row.run_pk, "transaction" if is_spend else "resume", row.path, data, now)
            audit.record(tx, principal, f"approval.{decision}", row.id, **about)
            decided = rows.find(tx, principal.org_id, approval_id)
            assert decided is not None
            return decided

        def after(row: ApprovalRow) -> None:
            if told:
                self._hub.publish(AskingRun(row.run_pk, row.run_id, row.org_id, row.workflow_id), told)
            self._engine.wake(row.run_pk)

        return await idempotency.write(self._writer, unit, after)

    async def _check_hand(self, principal: Principal, asked: ApprovalRow) -> None:
        def query(tx: Tx) -> None:
            run, node_id = run_rows.get(tx, asked.run_pk), asked.path.rpartition(".")[2]
            self._gate.check_decision(Lookup(tx, principal.org_id), principal, run, node_id)

        await self._gate.slicing(lambda: self._database.read(query))
