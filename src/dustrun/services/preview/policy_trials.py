"""What a changed policy would have said of a wallet's spends of the last 30 days, and what it would say of one payment.
Nothing is reserved or written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from dustrun import clock
from dustrun.core.evm.abi_signatures import parse_function
from dustrun.core.money.intent import Intent, Movement, SignRequest
from dustrun.core.money.policy import PolicyRequest, Reason, Verdict, WalletPolicy, Worth, read_policy
from dustrun.core.money.policy.counting import Origin, canonical, gas_measure, is_gas
from dustrun.core.money.policy.document import with_defaults
from dustrun.core.money.policy.judge import APPROVED_BY_PERSON, depends_on_prices
from dustrun.core.money.policy.verdict import read_stored
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import Asset
from dustrun.core.values.exact_json import loads_own
from dustrun.errors import Bug
from dustrun.records import dataclass
from dustrun.sdk.threads import run_beside
from dustrun.services.access.principal import Principal
from dustrun.services.outbox import policy_check
from dustrun.services.preview.policy_replay import Outcome, PastSpend, not_judged, outcome_of, replay, windows_of
from dustrun.services.wallets.budget import Budget, SpendCase, check_reached
from dustrun.services.wallets.policies import PolicySentences
from dustrun.services.wallets.wallets import get_wallet
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import past_spends as rows
from dustrun.storage.money import reservations
from dustrun.storage.money import wallets as wallet_rows
from dustrun.storage.money.reservations import ReservationRow
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.money.wallets import WalletRow

PERIOD_MS: Final = 30 * 86_400_000
MOST_JUDGED: Final = 1000
_TRANSFER: Final = parse_function("transfer(address to, uint256 amount) returns (bool)")
Row = TransactionRow | SignatureRow


@dataclass(frozen=True, slots=True)
class SaidReason:
    """A reason of a verdict, and the sentence of the policy that says it; None if none does."""

    statement: str
    message: str
    sentence: str | None


@dataclass(frozen=True, slots=True)
class JudgedSpend:
    """A recorded spend: what was decided, and what the policy would have said."""

    row: Row
    about: str
    at_ms: int
    decided: Outcome
    now: Outcome
    reasons: Sequence[SaidReason]


@dataclass(frozen=True, slots=True)
class PolicyReplay:
    """The recorded spends, newest first, and what is not judged again. `since_ms`: the time of the first one judged;
    `is_whole`: that is all of the period. `priced_now`: how many have no recorded price, so that today's counts."""

    wallet_id: str
    since_ms: int
    is_whole: bool
    judged: Sequence[JudgedSpend]
    not_judged: Sequence[str]
    priced_now: int


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment that nobody has made."""

    asset: Asset
    units: int
    recipient: str
    workflow_id: str | None


@dataclass(frozen=True, slots=True)
class TriedPayment:
    """What the policy would say of a payment now."""

    outcome: Outcome
    reasons: Sequence[SaidReason]
    not_judged: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Read:
    """What the store has of a wallet's spends. `policy`: the one in force."""

    wallet: WalletRow
    policy: WalletPolicy
    found: Sequence[tuple[Row, Sequence[ReservationRow], Origin, Mapping[int, str]]]
    is_whole: bool
    first_seen: Mapping[str, int]


class PolicyTrials:
    """Holds policies against what was spent, and against what somebody would spend."""

    def __init__(self, database: Database, budget: Budget, sentences: PolicySentences) -> None:
        self._database = database
        self._budget = budget
        self._sentences = sentences

    async def replay(self, principal: Principal, wallet_id: str, policy: WalletPolicy | None) -> PolicyReplay:
        """What a policy, by default the one in force, would have said in the last 30 days. Raises `NotFound`, and
        `Forbidden` for a key that may not see what all workflows spend."""
        until = clock.now_ms()
        asked = None if policy is None else with_defaults(policy)
        read = await self._database.read(lambda tx: _read(tx, principal, wallet_id, asked, until))
        asked = asked or read.policy
        spends = await run_beside(_spends_of, read)
        priced_now, spends = await self._priced(spends)
        said = await self._sentences.statements_of(asked) if principal.may("wallet:read") else {}
        judged = await run_beside(_judge, asked, spends, read, until - PERIOD_MS)
        by_id = {row.id: row for row, *_ in read.found}
        shown = [_judged(by_id[spend.id], spend, verdict, said) for spend, verdict in reversed(judged)]
        period = until - PERIOD_MS
        since = shown[-1].at_ms if shown and not read.is_whole else period
        is_whole = read.is_whole or since <= period
        ids = {one.row.id for one in shown}
        return PolicyReplay(
            wallet_id, max(since, period), is_whole, shown, not_judged(asked), len(priced_now.intersection(ids))
        )

    async def _priced(self, spends: Sequence[PastSpend]) -> tuple[set[str], list[PastSpend]]:
        """Spends with the prices of now where none was recorded, and which those are."""
        lacking = {one.id: one for one in spends if _unpriced(one)}
        if not lacking:
            return set(), list(spends)
        quotes = await self._budget.values_of([one.request for one in lacking.values()], surveys=False)
        now = {key: value.worth for key, value in quotes.items()}
        return set(lacking), [
            replace(one, worths={**now, **one.worths}) if one.id in lacking else one for one in spends
        ]

    async def payment(
        self, principal: Principal, wallet_id: str, payment: Payment, policy: WalletPolicy | None
    ) -> TriedPayment:
        """What a policy, by default the one in force, would say now of one payment. Raises `NotFound`, and `Temporary`
        if it is refused while a price source cannot be reached."""

        def read(tx: Tx) -> tuple[WalletRow, WalletPolicy]:
            return get_wallet(tx, principal, wallet_id), _policy_of(tx, wallet_id)

        wallet, in_force = await self._database.read(read)
        asked = in_force if policy is None else with_defaults(policy)
        request = _request_of(payment, wallet.address)
        values = await self._budget.values_of([request], surveys=depends_on_prices(asked))

        def judge(tx: Tx) -> Verdict:
            judged = asked.model_copy(update={"sources": None})
            case = SpendCase(wallet_id, judged, request, values, clock.now_ms())
            return self._budget.judge_simulated(tx, case)[0]

        verdict = await self._database.read(judge)
        check_reached(verdict, values)
        said = await self._sentences.statements_of(asked)
        return TriedPayment(outcome_of(verdict), _told(verdict.reasons, said), [*not_judged(asked), "fee"])


def _policy_of(tx: Tx, wallet_id: str) -> WalletPolicy:
    row = wallet_rows.find_policy(tx, wallet_id, clock.now_ms())
    if row is None:
        raise Bug(f'The wallet "{wallet_id}" has no policy.')
    return read_policy(row.document)


def _request_of(payment: Payment, sender: str) -> PolicyRequest:
    """A transfer as `transfer-native` and `transfer-token` make it, without its fee."""
    asset, who = payment.asset, checksum(payment.recipient)
    moved = (Movement("send", asset, payment.units, who),)
    origin = Origin(workflow_id=payment.workflow_id)
    if asset.token is None:
        return PolicyRequest(
            "transaction", asset.chain_id, who, payment.units, b"", moved, sender=sender, origin=origin
        )
    data = _TRANSFER.encode(who, payment.units)
    return PolicyRequest(
        *("transaction", asset.chain_id, checksum(asset.token), 0, data, moved),
        method=_TRANSFER.signature,
        sender=sender,
        origin=origin,
    )


def _read(tx: Tx, principal: Principal, wallet_id: str, policy: WalletPolicy | None, until: int) -> _Read:
    wallet, in_force = get_wallet(tx, principal, wallet_id), _policy_of(tx, wallet_id)
    principal.need_every_workflow("read what other workflows have spent")
    asked = policy or in_force
    longest = max(windows_of(asked), default=0)
    found = rows.list_decided(tx, wallet_id, until - PERIOD_MS - longest, MOST_JUDGED + 1)
    is_whole, found = len(found) <= MOST_JUDGED, found[:MOST_JUDGED]
    reserved = rows.reservations_of(tx, wallet_id, min((row.planned_at for row in found), default=until))
    plain = asked.model_copy(update={"sources": None})
    whole = [
        (
            row,
            reserved.get(row.id, ()),
            policy_check.origin_of(tx, plain, row),
            policy_check.scopes_of(tx, plain, row),
        )
        for row in found
    ]
    addresses = {one.lower() for row in found for one in _counterparties(row)} if asked.new_recipient_hours else set()
    seen = reservations.first_seen(tx, wallet_id, addresses)
    named = {entry.rpartition(":")[2].lower() for entry in asked.recipients}
    return _Read(wallet, in_force, whole, is_whole, seen | dict.fromkeys(named & addresses, 0))


def _counterparties(row: Row) -> list[str]:
    return [str(one["counterparty"]) for one in _stored(row)["movements"]]


def _stored(row: Row) -> dict[str, Any]:
    stored: dict[str, Any] = loads_own(row.intent if isinstance(row, TransactionRow) else row.request)
    return stored


def _spends_of(read: _Read) -> list[PastSpend]:
    spends = []
    for row, reserved, origin, scopes in read.found:
        decided = _decided(row)
        if decided is not None:
            spends.append(_spend_of(read.wallet, row, decided, reserved, origin, scopes))
    return spends


def _decided(row: Row) -> tuple[Outcome, tuple[Reason, ...]] | None:
    """What the policy said, and why; None if it has not decided."""
    verdict, _ = read_stored(row.verdict)
    if verdict is None:
        return None
    reasons = tuple(Reason(str(one["statement"]), str(one["message"])) for one in verdict["reasons"])
    answered = tuple(reason for reason in reasons if reason.message == APPROVED_BY_PERSON)
    outcome: Outcome = verdict["outcome"]
    return ("ask", answered) if answered else (outcome, reasons)


def _spend_of(
    wallet: WalletRow,
    row: Row,
    decided: tuple[Outcome, tuple[Reason, ...]],
    reserved: Sequence[ReservationRow],
    origin: Origin,
    scopes: Mapping[int, str],
) -> PastSpend:
    own = [one for one in reserved if one.wallet_id == wallet.id]
    moved = [one for one in own if not is_gas(one.measure)] or own
    ended = next((one.settled_at for one in moved if one.settled_at is not None), None)
    made_at = own[0].opened_at if own else row.planned_at
    outcome, reasons = decided
    return PastSpend(
        id=row.id,
        at_ms=made_at,
        request=replace(_recorded_request(row, wallet.address), origin=origin),
        worths=_worths(own, row.chain_id),
        decided=outcome,
        reasons=reasons,
        is_made=bool(own),
        ended_ms=ended if own else row.planned_at,
        is_released=bool(moved) and all(one.state == reservations.RELEASED for one in moved),
        paid={one.measure: one.units for one in own if is_gas(one.measure) and one.state == reservations.SETTLED},
        scopes=scopes,
        order=own[0].id if own else 0,
    )


def _recorded_request(row: Row, address: str) -> PolicyRequest:
    shown = _stored(row)
    if isinstance(row, TransactionRow):
        gas, price = row.gas_limit or 0, int(row.max_price or 0)
        return PolicyRequest.of_intent(Intent.of(shown), row.sender, gas_limit=gas, max_fee_units=price)
    movements = tuple(Movement.of(one) for one in shown["movements"])
    request = SignRequest(
        *(shown["item"], shown["sign"], shown["chainId"], shown["payload"], movements, shown["about"]),
        bool(shown["isDecoded"]),
    )
    return PolicyRequest.of_signature(request, address)


def _worths(own: Iterable[ReservationRow], chain_id: int | None) -> dict[str, Worth]:
    """The prices by which a spend was judged."""
    found: dict[str, Worth] = {}
    for one in own:
        if one.price is not None:
            price = loads_own(one.price)
            is_fee = chain_id is not None and one.measure == gas_measure(chain_id)
            key = canonical(Asset(chain_id)) if is_fee and chain_id is not None else one.measure
            found[key] = Worth(Decimal(price["usd"]), int(price["decimals"]))
    return found


def _unpriced(spend: PastSpend) -> bool:
    return any(canonical(asset) not in spend.worths for asset in spend.request.assets)


def _judge(
    policy: WalletPolicy, spends: Sequence[PastSpend], read: _Read, since: int
) -> list[tuple[PastSpend, Verdict]]:
    """Those of the period; those before it only count toward its limits."""
    return [one for one in replay(policy, spends, read.first_seen) if one[0].at_ms >= since]


def _judged(row: Row, spend: PastSpend, verdict: Verdict, said: Mapping[str, str]) -> JudgedSpend:
    now = outcome_of(verdict)
    reasons = () if now == "allow" else _told(verdict.reasons, said)
    return JudgedSpend(row, str(_stored(row)["about"]), spend.at_ms, spend.decided, now, reasons)


def _told(reasons: Iterable[Reason], said: Mapping[str, str]) -> list[SaidReason]:
    return [SaidReason(one.statement, one.message, _sentence(one.statement, said)) for one in reasons]


def _sentence(statement: str, said: Mapping[str, str]) -> str | None:
    """The sentence that says a statement, or the one that it is a part of."""
    return said.get(statement) or said.get(statement.partition(".")[0])
