"""Judges an intent by the wallet's policy in the unit that signs it, and asks a person if the policy says so."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from types import MappingProxyType

from dustrun import clock
from dustrun.core.money.intent import Intent, Movement
from dustrun.core.money.policy import Allow, Ask, CountedUnits, Deny, PolicyRequest, Reason, Verdict
from dustrun.core.money.policy.counting import Origin
from dustrun.core.money.policy.document import ApprovalRules, WalletPolicy, read_policy
from dustrun.core.money.policy.judge import BATCH, RUN, depends_on_prices
from dustrun.core.money.policy.outflow import Ceilings, TakenAmounts
from dustrun.core.money.rehearsal_guard import data_hash
from dustrun.core.money.transaction_state import TxState, binding_of
from dustrun.core.values.addresses import checksum
from dustrun.core.values.exact_json import dumps_text, loads_own
from dustrun.errors import Temporary
from dustrun.records import dataclass
from dustrun.services.outbox import events
from dustrun.services.outbox.deps import OutboxDeps
from dustrun.services.outbox.events import CommittedSteps, TransactionStep
from dustrun.services.outbox.preflight import Ready
from dustrun.services.outbox.spend_status import IntentFailure, SpendRequest, error_json
from dustrun.services.runs.approvals import APPROVED, votes_of, with_good_votes
from dustrun.services.wallets import budget as budgets
from dustrun.services.wallets.budget import Budget, Earlier, SpendCase, Valuer, Values
from dustrun.storage.access import hands as hand_rows
from dustrun.storage.access import keys as key_rows
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import contracts as contract_rows
from dustrun.storage.money import reservations as reservation_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.reservations import Ledger
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs import approvals as approval_rows
from dustrun.storage.runs import called_runs
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import PENDING, ApprovalRow
from dustrun.storage.runs.journal import RunHeads

_SHOWN_BYTES, _SHOWN_MOVEMENTS, _SHOWN_TOGETHER, _SHOWN_REASONS, _FEW = 512, 20, 20, 5, 20
_LIGHT_BYTES = 16_384
"""Calldata that is judged within a millisecond or two."""
OTHERS_FAILED = "Another spend of its node failed, so it was not signed."
POLICY, REJECTED, EXPIRED, NOT_SIGNED = "REFUSED", "REJECTED", "APPROVAL_EXPIRED", "NOT_SIGNED"


def policy_of(tx: Tx, wallet_id: str, now_ms: int) -> WalletPolicy | None:
    """The wallet's policy in force."""
    row = wallet_rows.find_policy(tx, wallet_id, now_ms)
    return read_policy(row.document) if row is not None else None


async def find_policy(database: Database, wallet_id: str) -> WalletPolicy | None:
    """The wallet's policy in force now."""
    return (await find_with_version(database, wallet_id))[1]


async def find_with_version(database: Database, wallet_id: str) -> tuple[int | None, WalletPolicy | None]:
    """The wallet's policy in force now, and its version."""
    now = clock.now_ms()
    row = await database.look_up(lambda tx: wallet_rows.find_policy(tx, wallet_id, now))
    return (None, None) if row is None else (row.version, read_policy(row.document))


def case_of(tx: Tx, row: TransactionRow | SignatureRow, request: PolicyRequest, values: Values) -> SpendCase:
    """A spend under the wallet's policy in force."""
    now = clock.now_ms()
    policy = policy_of(tx, row.wallet_id, now)
    asked = _with_origin(tx, policy, request, row)
    return SpendCase(row.wallet_id, policy, asked, values, now, scopes=scopes_of(tx, policy, row))


Spender = TransactionRow | SignatureRow | SpendRequest
"""The rows of a spending node of a run."""


def scopes_of(tx: Tx, policy: WalletPolicy | None, row: Spender) -> dict[int, str]:
    """Under which names a spend's run and node add up what they spend of its wallet, if the policy asks for that."""
    asks = policy.approval_above if policy is not None else None
    if asks is None or row.run_pk is None or all(total.per == "window" for total in asks.totals):
        return {}
    return {RUN: f"run:{row.wallet_id}/{row.org_id}/{top_run_of(tx, row)}", BATCH: batch_of(row)}


def batch_of(row: Spender) -> str:
    """Under which name a node adds up what it spends of a wallet."""
    return f"batch:{row.wallet_id}/{row.org_id}/{row.root_run_id}/{row.path}"


def _with_origin(tx: Tx, policy: WalletPolicy | None, request: PolicyRequest, row: Spender | None) -> PolicyRequest:
    """The request with where it comes from, if a limit depends on it."""
    return request if row is None or policy is None else replace(request, origin=origin_of(tx, policy, row))


def origin_of(tx: Tx, policy: WalletPolicy | None, row: Spender) -> Origin:
    """Where a spend comes from, as far as the policy depends on it."""
    if policy is None:
        return Origin()
    place = None
    if policy.sources is not None and row.run_pk is not None and row.path is not None:
        place = (row.org_id, row.run_pk, row.path)
    if not any(limit.is_scoped for limit in policy.limits):
        return Origin(place=place)
    run_id = top_run_of(tx, row) if any(limit.per == "run" for limit in policy.limits) else row.root_run_id
    return Origin(row.workflow_id, run_id, row.key_id, place)


def top_run_of(tx: Tx, row: Spender) -> str | None:
    """The first run of the retry chain that a spend belongs to, above all runs that call each other."""
    if row.run_pk is None:
        return None
    run = run_rows.get(tx, row.run_pk)
    while (call := called_runs.find_call(tx, run)) is not None:
        assert call.callers is not None
        run = run_rows.get(tx, loads_own(call.callers)["topPk"])
    return run.root_run_id


def dust_run_of(tx: Tx, row: Spender) -> str | None:
    """The dust test that a spend belongs to; its retries and the runs it calls share one cap."""
    run_id = top_run_of(tx, row) if row.mode == "dust" else None
    return None if run_id is None else f"dust:{row.org_id}/{run_id}"


class Undone(Exception):
    """Rolls back a unit that only had to find something out."""


async def may_allow(
    deps: OutboxDeps,
    row: TransactionRow | SignatureRow,
    request: PolicyRequest,
    values: Values,
) -> bool:
    """Whether policy would allow it now, and nothing bars its run; asked before a signer is. Reserves nothing. Raises
    `Temporary` if it is denied while a price source cannot be reached."""

    def query(tx: Tx) -> tuple[Verdict, bool]:
        verdict = deps.budget.judge_simulated(tx, case_of(tx, row, request, values))[0]
        return verdict, find_barred(deps.budget, tx, row) is not None

    is_light = len(request.data) <= _LIGHT_BYTES
    look = deps.database.look_up if is_light else deps.database.read
    verdict, is_barred = await deps.budget.slicing(lambda: look(query))
    if not is_barred:
        budgets.check_reached(verdict, values)
    return isinstance(verdict, Allow) and not is_barred


Subject = tuple[TransactionRow, PolicyRequest, Ready | None]
"""A planned transaction, the spend that is judged, and its cost if that is known."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """On the transactions of a node, in their order: the place of the first that is denied and why, and the questions
    before it, by id, that no person has answered."""

    denied: tuple[int, IntentFailure, Deny | None] | None = None
    asks: Mapping[str, Ask] = field(default_factory=dict)
    hands: str = ""
    """The counts of what hands had written then."""


class NotWhole(Exception):
    """A node's transactions, or some of them, cannot be written as they were judged: what counts has changed since.
    They have to be judged again."""

    def __init__(self, request: SpendRequest) -> None:
        super().__init__("A transaction of the node is not allowed any more.")
        self.request = request


async def judge_all(deps: OutboxDeps, subjects: Sequence[Subject], values: Values) -> Verdicts:
    """Judges transactions of one node in their order, each with what those before it spend. Reserves nothing: each is
    judged again in the unit that signs it. Raises `Temporary` if one is denied while a price source cannot be
    reached."""
    if not subjects:
        return Verdicts()

    def query(tx: Tx) -> Verdicts:
        now, first = clock.now_ms(), subjects[0][0]
        counts = hand_rows.ask_counts(tx, first.org_id, first.workflow_id)
        barred = find_barred(deps.budget, tx, first)
        tx.wait()
        if barred is not None:
            return Verdicts((0, barred, None))
        policy, dust_run = policy_of(tx, first.wallet_id, now), dust_run_of(tx, first)
        ledger = Ledger(tx, now, [row.id for row, _, _ in subjects])
        approved, scopes = GivenApprovals(tx), scopes_of(tx, policy, first)
        earlier, asks = list[Earlier](), dict[str, Ask]()
        for place, (row, request, ready) in enumerate(subjects):
            concerns = () if ready is None else ready.concerns
            asked = _with_origin(tx, policy, request, row)
            case = SpendCase(row.wallet_id, policy, asked, values, now, concerns, scopes)
            verdict, counted = deps.budget.judge_simulated(tx, case, earlier, ledger=ledger, dust_run=dust_run)
            if isinstance(verdict, Deny):
                return Verdicts((place, denial(verdict), verdict), asks)
            if isinstance(verdict, Ask) and ready is not None and not approved.covers(ready, verdict):
                asks[row.id] = verdict
            earlier.append(Earlier(now, counted, is_of_node=True))
        return Verdicts(None, asks, counts())

    is_light = sum(len(request.data) for _, request, _ in subjects) <= _LIGHT_BYTES and len(subjects) <= _FEW
    look = deps.database.look_up if is_light else deps.database.read
    verdicts = await deps.budget.slicing(lambda: look(query))
    if verdicts.denied is not None and verdicts.denied[2] is not None:
        budgets.check_reached(verdicts.denied[2], values)
    return verdicts


def note_recipients(tx: Tx, row: TransactionRow | SpendRequest, judged: Iterable[PolicyRequest]) -> None:
    """Notes whom spends of a node that were refused or asked about would pay; see `budget.note_recipients`."""
    now = clock.now_ms()
    ledger, policy = Ledger(tx, now), policy_of(tx, row.wallet_id, now)
    for request in judged:
        budgets.note_recipients(ledger, SpendCase(row.wallet_id, policy, request, {}, now))
    ledger.write()


class IntentJudge:
    """Judges planned intents one after the other in one unit, under the policies in force. What that needs is asked
    ahead: the policies and the keys with `__init__`, what counts under them with `ask`."""

    def __init__(self, tx: Tx, budget: Budget, planned: Sequence[TransactionRow]) -> None:
        self._tx = tx
        self._budget = budget
        self._now_ms = clock.now_ms()
        wallets = dict.fromkeys(row.wallet_id for row in planned)
        keys = dict.fromkeys((row.org_id, row.key_id) for row in planned)
        self._asked = {wallet_id: wallet_rows.ask_policy(tx, wallet_id, self._now_ms) for wallet_id in wallets}
        self._is_revoked = {key: key_rows.ask_revoked(tx, *key) for key in keys}
        places = dict.fromkeys((row.org_id, row.workflow_id) for row in planned)
        self._hands = {place: hand_rows.ask_counts(tx, *place) for place in places}
        self._policies: dict[str, WalletPolicy | None] = {}
        self._approved = GivenApprovals(tx)
        self._ledger = Ledger(tx, self._now_ms)

    def ask(self, ready: Iterable[Ready]) -> None:
        """Asks what judging these needs, after a wait for the policies; another wait must follow."""
        for one in ready:
            budgets.ask(self._ledger, self._case(one))

    def _case(self, ready: Ready) -> SpendCase:
        wallet_id = ready.row.wallet_id
        if wallet_id not in self._policies:
            row = self._asked[wallet_id]()
            self._policies[wallet_id] = read_policy(row.document) if row is not None else None
        policy = self._policies[wallet_id]
        scopes = scopes_of(self._tx, policy, ready.row)
        request = _with_origin(self._tx, policy, ready.request, ready.row)
        return SpendCase(wallet_id, policy, request, ready.values, self._now_ms, ready.concerns, scopes)

    def decide(
        self, request: SpendRequest, ready: Ready, heads: RunHeads | None = None, *, reserves: bool = True
    ) -> tuple[Allow | None, CommittedSteps | None]:
        """Judges a planned intent: `Allow` reserves it, if it `reserves`; otherwise the denial or the question is
        written."""
        tx, row = self._tx, ready.row
        if self._is_revoked[row.org_id, row.key_id]():
            return None, refuse(tx, row, revoked(row.key_id), heads=heads)
        barred = self._find_changed(request, ready)
        if barred is not None:
            return None, refuse(tx, row, barred, heads=heads)
        self._ledger.judge_again(row.id if ready.intent.after else None)
        verdict = self._budget.judge_and_reserve(
            tx,
            self._case(ready),
            row.id,
            is_approved=self._approved.covers(ready),
            dust_run=dust_run_of(tx, row),
            ledger=self._ledger,
            reserves=reserves,
        )
        if isinstance(verdict, Deny):
            return None, refuse(tx, row, denial(verdict), verdict, heads)
        if isinstance(verdict, Ask):
            return None, ask_all(tx, request, [ready], {row.id: verdict}, heads)[0]
        if reserves and self._approved.covers(ready):
            budgets.keep_approved(self._ledger, self._case(ready), is_dust=ready.row.mode == "dust")
        for address, implementation in ready.implementations.items() if reserves else ():
            contract_rows.see(tx, row.org_id, row.chain_id, address, implementation, self._now_ms)
        return verdict, None

    def hold(self, request: SpendRequest, ready: Ready) -> None:
        """Reserves for one that waits for others of its node, in the unit that writes those: else another spend could
        take its room, and leave an allowance without its swap. Raises `NotWhole` if it is not allowed any more."""
        row = rows.get(self._tx, ready.row.id)
        if row.state != TxState.PLANNED or row.run_pk != request.run_pk:
            return
        self._ledger.judge_again(row.id)
        verdict = self._budget.judge_and_reserve(
            self._tx,
            self._case(ready),
            row.id,
            is_approved=self._approved.covers(replace(ready, row=row)),
            dust_run=dust_run_of(self._tx, row),
            ledger=self._ledger,
        )
        if not isinstance(verdict, Allow):
            raise NotWhole(request)

    def _find_changed(self, request: SpendRequest, ready: Ready) -> IntentFailure | None:
        """Why nothing of its run is spent any more, looked at again if a hand has written since it was judged. Raises
        `NotWhole` if the policy is another one: its outflow was held against the former."""
        row, grounds = ready.row, ready.grounds
        if grounds is None:
            return None
        policy = self._asked[row.wallet_id]()
        if (policy.version if policy is not None else None) != grounds.policy_version:
            raise NotWhole(request)
        if self._hands[row.org_id, row.workflow_id]() == grounds.hands:
            return None
        try:
            return find_barred(self._budget, self._tx, row)
        except Temporary as error:  # what shapes it must be found first
            raise NotWhole(request) from error

    def write(self) -> None:
        """Writes what was reserved; call it once, at the end."""
        self._ledger.write()


def find_barred(budget: Budget, tx: Tx, row: TransactionRow | SignatureRow) -> IntentFailure | None:
    """Why nothing of this run is spent, whatever the policy says: its key is revoked, or what shapes its spends has
    changed since it began, by a key that may not spend. Raises `Unsliced`."""
    if row.key_id is not None and key_rows.is_revoked(tx, row.org_id, row.key_id):
        return revoked(row.key_id)
    why = budget.why_unaccepted(tx, row.org_id, row.run_pk)
    if why is None:
        return None
    message = f"{why} A retry of the run is judged again."
    return IntentFailure(POLICY, message, details=({"field": "sources", "message": why},))


def revoked(key_id: str | None) -> IntentFailure:
    """Why nothing is spent any more in the name of a key."""
    message = f'The key "{key_id}" that started this run is revoked, so nothing more is spent in its name.'
    return IntentFailure(
        POLICY, f"{message} Another key may retry the run.", details=({"field": "key", "message": message},)
    )


def denial(verdict: Deny) -> IntentFailure:
    """A policy's denial as the node's failure."""
    details = tuple({"field": reason.statement, "message": reason.message} for reason in verdict.reasons)
    first = verdict.reasons[0].message if verdict.reasons else "The wallet's policy does not allow it."
    others = len(verdict.reasons) - 1
    more = f" (and {others} more {'reasons' if others > 1 else 'reason'})" if others > 0 else ""
    return IntentFailure(POLICY, f"The wallet's policy refuses it: {first}{more}", details=details)


def refuse(
    tx: Tx, row: TransactionRow, failure: IntentFailure, verdict: Verdict | None = None, heads: RunHeads | None = None
) -> CommittedSteps | None:
    """Refuses a planned intent for good and closes its question."""
    now = clock.now_ms()
    refused = replace(
        row,
        state=TxState.REFUSED,
        error=dumps_text(error_json(failure)),
        verdict=dumps_text(verdict.stored()) if verdict is not None else row.verdict,
        finished_at=now,
        updated_at=now,
    )
    rows.save(tx, refused)
    if row.state == TxState.PLANNED:
        reservation_rows.drop(tx, row.id)
    if row.approval_id is not None:
        approval_rows.close(tx, row.approval_id, "timed_out" if failure.code == EXPIRED else "cancelled", now)
    return events.note(tx, refused, TransactionStep("refused", {"error": error_json(failure)}), heads=heads)


def give_up(tx: Tx, row: TransactionRow, message: str, *, wakes: bool = False) -> CommittedSteps | None:
    """Cancels a planned intent because another one of its node failed, or the run ended."""
    now = clock.now_ms()
    error = error_json(IntentFailure(NOT_SIGNED, message))
    given_up = replace(row, state=TxState.CANCELLED, error=dumps_text(error), finished_at=now, updated_at=now)
    rows.save(tx, given_up)
    if row.state == TxState.PLANNED:
        reservation_rows.drop(tx, row.id)
    if row.approval_id is not None:
        approval_rows.close(tx, row.approval_id, "cancelled", now)
    return events.note(tx, given_up, TransactionStep("cancelled", {"error": error}), wakes=wakes)


# --- the question to a person ---


class GivenApprovals:
    """The approvals of people, read once in a unit."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx
        self._bindings: dict[str, frozenset[str]] = {}

    def covers(self, ready: Ready, asks: Ask | None = None) -> bool:
        """Whether a person has approved exactly this transaction, with at most this fee, and all that was asked with
        it. `asks`: why it is asked about now; of what was approved at an earlier attempt, every word must be the same.
        """
        row = ready.row
        if row.approval_id is None:
            return False
        if asks is not None and self._is_of_earlier(row) and row.verdict != dumps_text(asks.stored()):
            return False
        if row.approval_id not in self._bindings:
            self._bindings[row.approval_id] = self._approved_by(row, row.approval_id)
        return _binding(ready) in self._bindings[row.approval_id]

    def _is_of_earlier(self, row: TransactionRow) -> bool:
        """Whether an earlier attempt of its node has asked the question."""
        if row.generation == 1 or row.root_run_id is None or row.path is None:
            return False
        found = rows.list_of_node(self._tx, row.org_id, row.root_run_id, row.path)
        return any(one.generation < row.generation and one.approval_id == row.approval_id for one in found)

    def _approved_by(self, row: TransactionRow, approval_id: str) -> frozenset[str]:
        asked = approval_rows.find(self._tx, row.org_id, approval_id)
        if asked is None or asked.status != APPROVED or asked.binding is None:
            return frozenset()
        parts: list[str] = [asked.binding] if asked.parts is None else loads_own(asked.parts)
        return frozenset(parts) if asked.binding == _joint(parts) else frozenset()


def ask_all(
    tx: Tx, request: SpendRequest, ready: Sequence[Ready], asks: Mapping[str, Ask], heads: RunHeads | None = None
) -> list[CommittedSteps | None]:
    """Asks a person to approve all of a node's transactions at once, each with a fixed fee ceiling; `asks` says why, by
    id. Nothing is signed."""
    now = clock.now_ms()
    fixed = [replace(one.row, max_price=str(one.max_price_units), gas_limit=one.gas_limit) for one in ready]
    parts, subject = [_binding(one) for one in ready], next(one.row for one in ready if one.row.id in asks)
    question = question_of(tx, request, subject, _joint(parts), _message(ready, asks), now)
    if len(parts) > 1:
        question = replace(question, parts=dumps_text(parts))
    approval_rows.add(tx, question)
    told = list[CommittedSteps | None]()
    for row in fixed:
        verdict = asks.get(row.id)
        shown = dumps_text(verdict.stored()) if verdict is not None else row.verdict
        asking = replace(row, approval_id=question.id, verdict=shown, updated_at=now)
        rows.save(tx, asking)
        if row.id == subject.id:
            step = asked_step(question)
            told.append(events.note(tx, asking, step, heads=heads))
    by_id = {row.id: row for row in fixed}
    noticed = {reason: by_id[row_id] for row_id, verdict in asks.items() for reason in verdict.reasons}
    for reason, row in noticed.items():  # each once, if it is said of several
        alert = events.type_of_alert(reason)
        if alert is not None:
            told[0] = events.raise_alert(tx, row, alert, reason.message, told[0])
    return told


def asked_step(question: ApprovalRow) -> TransactionStep:
    """A question as events and hooks tell it; `quorum` if several hands must approve it."""
    several = {} if question.quorum is None else {"quorum": question.quorum}
    return TransactionStep("asked", {"approvalId": question.id, "message": question.message, **several})


def question_of(
    tx: Tx, request: SpendRequest, subject: TransactionRow | SignatureRow, binding: str, message: str, now: int
) -> ApprovalRow:
    """The question whether exactly this may be signed, by the rules of the policy in force."""
    policy, subject_id = policy_of(tx, subject.wallet_id, now), subject.id
    rules = policy.approval if policy is not None else ApprovalRules()
    digest = hashlib.sha256(f"{subject_id}\n{binding}\n{request.run_pk}".encode()).hexdigest()
    return ApprovalRow(
        id=f"apr_{digest[:26]}",
        org_id=request.org_id,
        run_pk=request.run_pk,
        run_id=request.run_id,
        workflow_id=request.workflow_id,
        workflow_name=request.workflow_name,
        path=request.path,
        message=message,
        approvers=dumps_text(list(rules.approvers)),
        mode=request.mode,
        status=PENDING,
        created_at=now,
        expires_at=now + rules.expires_ms,
        binding=binding,
        barred_key=request.key_id,
        quorum=rules.quorum if rules.quorum > 1 else None,
    )


def question_status(tx: Tx, org_id: str, approval_id: str | None) -> IntentFailure | bool:
    """True while the question is open; a failure if it was rejected or expired; False if it was approved or nobody was
    asked."""
    asked = approval_rows.find(tx, org_id, approval_id) if approval_id is not None else None
    if asked is None or asked.status == APPROVED:
        return False
    is_over = clock.now_ms() >= asked.expires_at
    if asked.status == "timed_out" or (asked.status == PENDING and is_over):
        minutes = (asked.expires_at - asked.created_at) // 60_000
        within = f"{minutes // 60} hours" if minutes % 60 == 0 else f"{minutes} minutes"
        if asked.quorum is None:
            return IntentFailure(EXPIRED, f"Nobody approved it within {within}.")
        given = len(votes_of(with_good_votes(tx, asked)))
        return IntentFailure(EXPIRED, f"Only {given} of {asked.quorum} approved it within {within}.")
    if asked.status == PENDING:
        return True
    comment = f": {asked.comment}" if asked.comment else ""
    return IntentFailure(REJECTED, f'It was not approved (by "{asked.decided_by}"{comment}).')


def _binding(ready: Ready) -> str:
    """The approved intents. The question's gas limit stays, so that the fee ceiling is the same later."""
    binding = binding_of(ready.intent, ready.row.sender, ready.fee_ceiling_units)
    if not ready.concerns:
        return binding
    behind = dumps_text(dict(sorted(ready.implementations.items())))
    noticed = "\n".join([binding, *(reason.statement for reason in ready.concerns), behind])
    return hashlib.sha256(noticed.encode()).hexdigest()


def _joint(bindings: Sequence[str]) -> str:
    """The binding of transactions that are approved together, whatever their order."""
    if len(bindings) == 1:
        return bindings[0]
    return hashlib.sha256(dumps_text(sorted(bindings)).encode()).hexdigest()


def _message(ready: Sequence[Ready], asks: Mapping[str, Ask]) -> str:
    reasons = dict.fromkeys(reason.message for verdict in asks.values() for reason in verdict.reasons)
    why = " ".join([*reasons][:_SHOWN_REASONS])
    if len(ready) == 1:
        return f"{_tell(ready[0])}{why}"
    shown = [f"{place}. {_tell(one)}" for place, one in enumerate(ready[:_SHOWN_TOGETHER], 1)]
    rest = f"And {len(ready) - _SHOWN_TOGETHER} more, which the run shows. " if len(ready) > _SHOWN_TOGETHER else ""
    return f"{len(ready)} transactions together. {''.join(shown)}{rest}{_totals(ready)}{why}"


def _totals(ready: Sequence[Ready]) -> str:
    sums: dict[str, int] = {}
    for movement in (one for each in ready for one in each.intent.movements if one.kind == "send"):
        sums[movement.asset.key] = sums.get(movement.asset.key, 0) + movement.amount_units
    sent = ", ".join(f"{units} base units of {key}" for key, units in sums.items())
    fee = sum(one.fee_ceiling_units for one in ready)
    return f"In all: {sent or 'nothing is sent'}, fees at most {fee} base units. "


def _tell(ready: Ready) -> str:
    intent = ready.intent
    return (
        f"{intent.about} (chain {intent.chain_id}, from {ready.row.sender} to {_named(ready, intent.to)}, "
        f"{intent.value_units} base units of native coin, {_calldata(intent.data)}, fee at most "
        f"{ready.fee_ceiling_units} base units). {tell_movements(intent.movements, ready.names)}"
    )


def _named(ready: Ready, to: str | None) -> str:
    return "a new contract" if to is None else name_of(ready.names, to)


def name_of(names: Mapping[str, str], address: str) -> str:
    """An address with the name of a known contract, if it has one."""
    name = names.get(checksum(address))
    return address if name is None else f'{address} ("{name}")'


def tell_movements(movements: Iterable[Movement], names: Mapping[str, str] = MappingProxyType({})) -> str:
    """The movements of a spend, for the person who decides. Addresses, since the names in other texts may be chosen by
    others; `names` are of known contracts."""
    shown = [
        f"It {'lets' if one.kind == 'approve' else 'sends'} {name_of(names, one.counterparty)} "
        f"{'take ' if one.kind == 'approve' else ''}{one.amount_units} base units of {one.asset.key}. "
        for one in movements
    ]
    rest = f"And {len(shown) - _SHOWN_MOVEMENTS} more. " if len(shown) > _SHOWN_MOVEMENTS else ""
    return "".join(shown[:_SHOWN_MOVEMENTS]) + rest


def _calldata(data: bytes) -> str:
    """The arguments are what a call is; very long ones are named by their hash."""
    if not data:
        return "no calldata"
    if len(data) <= _SHOWN_BYTES:
        return f"calldata 0x{data.hex()}"
    begin = f"0x{data[:_SHOWN_BYTES].hex()}"
    return f"{len(data)} bytes of calldata that begin with {begin} and have the hash {data_hash(data)}"


LooksAhead = Callable[[str, str, Sequence[Intent], Valuer, Collection[int]], Awaitable[list[tuple[Reason, ...]]]]
"""See `concerns.look_ahead`."""


@dataclass(frozen=True, slots=True)
class SimulatedVerdict:
    """A verdict in a simulation, what the spend counts against later ones, and what bounds its outflow by the same
    policy."""

    verdict: Verdict
    counted: CountedUnits
    ceilings: Ceilings


class SimulatedPolicy:
    """Judges simulated spends against the stored ones and those of the same simulation, at its prices; reserves
    nothing."""

    def __init__(self, database: Database, budget: Budget, look: LooksAhead) -> None:
        self.database = database
        self.budget = budget
        self.look = look

    async def judge(
        self,
        wallet_id: str,
        request: PolicyRequest,
        now_ms: int,
        earlier: Sequence[Earlier],
        prices: Valuer,
        concerns: tuple[Reason, ...] = (),
    ) -> SimulatedVerdict:
        """Judges a spend under the wallet's policy in force. `concerns`: see `concerns.look_ahead`."""
        now = max(now_ms, clock.now_ms())
        in_force = await self.database.look_up(lambda tx: policy_of(tx, wallet_id, now))
        values = await self.budget.values_of([request], prices, surveys=depends_on_prices(in_force))

        def query(tx: Tx) -> SimulatedVerdict:
            policy = policy_of(tx, wallet_id, now)
            case = SpendCase(wallet_id, policy, request, values, now_ms, concerns)
            verdict, counted = self.budget.judge_simulated(tx, case, tuple(earlier))
            return SimulatedVerdict(verdict, counted, self.budget.ceilings(policy, request, is_dust=False))

        judged = await self.budget.slicing(lambda: self.database.read(query))
        budgets.check_reached(judged.verdict, values)
        return judged

    async def judge_outflow(
        self, ceilings: Ceilings, request: PolicyRequest, taken: TakenAmounts, prices: Valuer
    ) -> tuple[Reason, ...]:
        """Why the transaction takes more than the ceilings allow; empty if it does not."""
        return await self.budget.judge_outflow(ceilings, request, taken, prices)
