"""Spends that a question is about, for the person who decides: in whole units, and in dollars of now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, Final

from dustrun.core.evm.network import Network
from dustrun.core.money.intent import Movement
from dustrun.core.values.amounts import Asset, format_units
from dustrun.core.values.exact_json import loads_own
from dustrun.records import dataclass
from dustrun.services.wallets.budget import AssetValue
from dustrun.services.wallets.ledger import plain, symbol_of
from dustrun.storage.db.database import Database
from dustrun.storage.db.statement import Tx
from dustrun.storage.money import signatures as signature_rows
from dustrun.storage.money import transactions as rows
from dustrun.storage.money.signatures import SignatureRow
from dustrun.storage.money.transactions import TransactionRow
from dustrun.storage.runs import runs as run_rows
from dustrun.storage.runs.approvals import ApprovalRow

MOST_SHOWN: Final = 50
_WIDE: Final = Context(prec=400)
Json = dict[str, Any]
FindsValue = Callable[[Asset], Awaitable[AssetValue | None]]


@dataclass(frozen=True, slots=True)
class Amount:
    """Base units of an asset, with what is known of it."""

    asset: str
    symbol: str | None
    amount: str
    amount_formatted: str | None
    usd: str | None


@dataclass(frozen=True, slots=True)
class AskedMovement:
    """The assets that one spend would move, or let somebody take."""

    kind: str
    counterparty: str
    of_swap: bool
    of: Amount


@dataclass(frozen=True, slots=True)
class AskedSpend:
    """One transaction or signature that a question is about. `fee`: at most; None for a signature."""

    kind: str
    about: str
    chain_id: int | None
    wallet_id: str
    to: str | None
    method: str | None
    is_decoded: bool
    movements: Sequence[AskedMovement]
    fee: Amount | None
    reasons: Sequence[str]


class AskedSpends:
    """Reads what questions about spends are about; whoever may see a question may see that."""

    def __init__(self, database: Database, networks: Mapping[int, Network], find_value: FindsValue) -> None:
        self._database = database
        self._networks = networks
        self._find_value = find_value

    async def of(self, question: ApprovalRow) -> list[AskedSpend]:
        """The first `MOST_SHOWN` transactions and signatures that wait for the question's answer, or did."""

        def query(tx: Tx) -> list[TransactionRow | SignatureRow]:
            place = (tx, question.org_id, run_rows.get(tx, question.run_pk).root_run_id, question.path)
            found: list[TransactionRow | SignatureRow] = [
                *rows.list_of_node(*place),
                *signature_rows.list_of_node(*place),
            ]
            return [row for row in found if row.approval_id == question.id][:MOST_SHOWN]

        found = await self._database.read(query)
        shown = [loads_own(row.intent if isinstance(row, TransactionRow) else row.request) for row in found]
        moved = [[Movement.of(one) for one in spend["movements"]] for spend in shown]
        assets = {one.asset for each in moved for one in each}
        assets |= {Asset(row.chain_id) for row in found if isinstance(row, TransactionRow)}
        values = {asset: await self._find_value(asset) for asset in assets}
        measured = _Measured(self._networks, values)
        return [measured.spend(*each) for each in zip(found, shown, moved, strict=True)]


class _Measured:
    """Spends in whole units and dollars."""

    def __init__(self, networks: Mapping[int, Network], values: Mapping[Asset, AssetValue | None]) -> None:
        self._networks = networks
        self._values = values

    def spend(self, row: TransactionRow | SignatureRow, shown: Json, moved: Iterable[Movement]) -> AskedSpend:
        fee = self._fee(row) if isinstance(row, TransactionRow) else None
        verdict = loads_own(row.verdict) if row.verdict is not None else {}
        return AskedSpend(
            "transaction" if isinstance(row, TransactionRow) else str(shown["sign"]),
            str(shown["about"]),
            row.chain_id,
            row.wallet_id,
            shown.get("to"),
            shown.get("method"),
            bool(shown["isDecoded"]),
            [
                AskedMovement(one.kind, one.counterparty, one.of_swap, self._amount(one.asset, one.amount_units))
                for one in moved
            ],
            fee,
            [str(one["message"]) for one in verdict.get("reasons", ())],
        )

    def _fee(self, row: TransactionRow) -> Amount | None:
        if row.gas_limit is None or row.max_price is None:
            return None
        return self._amount(Asset(row.chain_id), row.gas_limit * int(row.max_price))

    def _amount(self, asset: Asset, units: int) -> Amount:
        value = self._values.get(asset)
        symbol = symbol_of(asset.key, self._networks)
        if value is None:
            native = self._networks[asset.chain_id].native if asset.chain_id in self._networks else None
            known = native.decimals if asset.token is None and native is not None else None
            return Amount(asset.key, symbol, str(units), None if known is None else format_units(units, known), None)
        worth = _WIDE.multiply(_WIDE.scaleb(Decimal(units), -value.decimals), value.price.usd)
        return Amount(asset.key, symbol, str(units), format_units(units, value.decimals), plain(worth))
