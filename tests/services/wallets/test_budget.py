"""Judging, reserving, settling and releasing on both stores: what a window holds, to the millisecond and the unit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from dustrun import clock
from dustrun.core.money.intent import Movement
from dustrun.core.money.policy import Allow, Ask, CountedUnits, Deny, PolicyRequest, Verdict, WalletPolicy
from dustrun.core.money.policy.counting import GAS_USD, Origin, gas_measure
from dustrun.core.values.addresses import checksum
from dustrun.core.values.amounts import MAX_UINT256, Asset
from dustrun.errors import Invalid, Temporary
from dustrun.sdk.chain import Price
from dustrun.services.wallets import budget
from dustrun.services.wallets.budget import AssetValue, Budget, Earlier, SpendCase, check_reached, with_fee
from dustrun.storage.db import migrate
from dustrun.storage.db.database import Database
from dustrun.storage.db.ledger_tables import reservations as table
from dustrun.storage.db.statement import Statement, Tx
from dustrun.storage.db.writer import Writer
from dustrun.storage.money import reservations

BOB = checksum("0x" + "a1" * 20)
ROUTER = checksum("0x" + "b2" * 20)
NATIVE = Asset(1)
DAY = 86_400_000
ETHER = 10**18
PRICES = {NATIVE.key: AssetValue(Price(Decimal("2500"), "static", 0, 0), 18)}


class Nobody:
    """Prices the coin of chain 1 and nothing else."""

    async def decimals(self, asset: Asset) -> int:
        return 18

    async def value(self, asset: Asset, *, surveys: bool = True) -> AssetValue:
        if asset != NATIVE:
            raise Invalid("unpriced")
        return PRICES[asset.key]


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[tuple[Database, Writer]]:
    """A fresh store and its writer."""
    database = Database(store_url, synchronous="NORMAL")
    migrate.upgrade(database)
    writer = Writer(database)
    writer.start()
    yield database, writer
    await writer.stop()
    database.close()


def policy(**fields: Any) -> WalletPolicy:
    """Chain 1's coin to Bob, within a limit of 1 ether a day."""
    limit = {"asset": NATIVE.key, "maxUnits": str(ETHER), "windowMs": DAY}
    given = {"chains": [1], "assets": [NATIVE.key], "recipients": [BOB], "limits": [limit], **fields}
    return WalletPolicy.model_validate(given)


def send(units: int, *, to: str = BOB, gas: int = 21_000, max_fee: int = 10**9) -> PolicyRequest:
    """A plain transfer."""
    movement = Movement("send", NATIVE, units, to)
    return PolicyRequest("transaction", 1, to, units, b"", (movement,), gas_limit=gas, max_fee_units=max_fee)


class Ledger:
    """One wallet's spends on a store."""

    def __init__(self, store: tuple[Database, Writer], rules: WalletPolicy) -> None:
        self.database, self.writer = store
        self.rules = rules
        self.spending = Budget(Nobody())

    def case(self, request: PolicyRequest, now: int) -> SpendCase:
        return SpendCase("wal_1", self.rules, request, PRICES, now)

    async def spend(self, subject: str, request: PolicyRequest, now: int, **options: Any) -> Verdict:
        def unit(tx: Tx) -> Verdict:
            return self.spending.judge_and_reserve(tx, self.case(request, now), subject, **options)

        return await self.writer.write(unit)

    async def settle(self, subject: str, fee: int | None, at: int) -> None:
        await self.writer.write(lambda tx: budget.settle(tx, subject, fee_units=fee, at_ms=at))

    async def release(self, subject: str, fee: int | None, at: int) -> None:
        await self.writer.write(lambda tx: budget.release(tx, subject, fee_units=fee, at_ms=at))

    async def spent(self, measure: str, window: int, now: int) -> int:
        return await self.database.read(lambda tx: reservations.spent_in_window(tx, "wal_1", measure, window, now))


async def test_of_concurrent_spends_exactly_as_many_succeed_as_fit(store: tuple[Database, Writer]) -> None:
    ledger = Ledger(store, policy())
    amount = 70_000_000_000_000_001  # 14 fit into one ether
    verdicts = await asyncio.gather(*(ledger.spend(f"tx_{n}", send(amount), 1000) for n in range(50)))
    assert sum(isinstance(verdict, Allow) for verdict in verdicts) == ETHER // amount == 14
    assert await ledger.spent(NATIVE.key, DAY, 1000) == 14 * amount
    refused = next(verdict for verdict in verdicts if isinstance(verdict, Deny))
    assert [reason.statement for reason in refused.reasons] == ["limits[0]"]


@pytest.mark.parametrize(
    ("scope", "fits"),
    [
        ({"of": {"recipients": [BOB]}}, {"bob": 14, "eve": 50}),
        ({"per": "recipient"}, {"bob": 14, "eve": 14}),
        ({"per": "key"}, {"bob": 14, "eve": 14}),
        ({"of": {"keys": ["bob's"], "assets": ["eip155:1/*"]}}, {"bob": 14, "eve": 50}),
    ],
    ids=["recipient", "each recipient", "each key", "one key's"],
)
async def test_within_a_scope_exactly_as_many_succeed_as_fit(
    store: tuple[Database, Writer], scope: dict[str, Any], fits: dict[str, int]
) -> None:
    limit = {"asset": NATIVE.key, "maxUnits": str(ETHER), "windowMs": DAY, **scope}
    ledger = Ledger(store, policy(recipients=["*"], limits=[limit]))
    amount, payees = 70_000_000_000_000_001, {"bob": BOB, "eve": ROUTER}
    asked = [
        (name, f"tx_{name}_{n}", replace(send(amount, to=to), origin=Origin("wf", f"run_{n}", f"{name}'s")))
        for n in range(50)
        for name, to in payees.items()
    ]
    verdicts = await asyncio.gather(*(ledger.spend(subject, request, 1000) for _, subject, request in asked))
    passed = [name for (name, _, _), verdict in zip(asked, verdicts, strict=True) if isinstance(verdict, Allow)]
    assert {name: passed.count(name) for name in payees} == fits
    for subject in [subject for _, subject, _ in asked]:
        await ledger.settle(subject, 1, 2000)
    again = asked[0][2]
    assert isinstance(await ledger.spend("tx_later", again, 2000 + DAY - 1), Deny), "one window after it settled"
    assert isinstance(await ledger.spend("tx_latest", again, 2000 + DAY), Allow)


async def test_a_run_has_its_own_count_however_long_it_takes(store: tuple[Database, Writer]) -> None:
    ledger = Ledger(store, policy(limits=[{"maxCount": 2, "per": "run"}]))
    of = [replace(send(5), origin=Origin("wf", run, "key")) for run in ("one", "two")]
    for n, (request, passes) in enumerate([(of[0], True), (of[0], True), (of[1], True), (of[0], False), (of[1], True)]):
        at = 1000 + n * 40 * DAY
        assert isinstance(await ledger.spend(f"tx_{n}", request, at), Allow if passes else Deny)
        await ledger.settle(f"tx_{n}", 1, at)


class Silent:
    """A price source that does not answer."""

    async def value(self, asset: Asset, *, surveys: bool = True) -> AssetValue:
        raise Temporary("no answer")

    async def decimals(self, asset: Asset) -> int:
        raise Temporary("no answer")


async def test_a_denial_without_a_price_that_cannot_be_read_is_temporary() -> None:
    quotes = await Budget(Nobody()).values_of([send(1)], Silent())
    assert quotes == {}
    check_reached(Allow(()), quotes)
    with pytest.raises(Temporary):
        check_reached(Deny(()), quotes)
    check_reached(Deny(()), await Budget(Nobody()).values_of([replace(send(1), chain_id=2)]))  # nobody prices it


async def test_prices_that_no_source_was_held_against_ask_under_a_limit_in_dollars(
    store: tuple[Database, Writer],
) -> None:
    """The policy has got a limit in dollars after the prices were read for another one."""
    budget, rules = Budget(Nobody()), policy(limits=[{"maxUsd": "5000"}])
    for surveys, verdict in ((True, Allow), (False, Ask)):
        values = await budget.values_of([send(1)], surveys=surveys)
        case = SpendCase("wal_1", rules, send(1), values, 0)
        assert isinstance(await store[0].read(lambda tx: budget.judge_simulated(tx, case)[0]), verdict)  # noqa: B023


async def test_a_spend_counts_while_open_and_for_one_window_after_it_settled(store: tuple[Database, Writer]) -> None:
    ledger = Ledger(store, policy())
    assert isinstance(await ledger.spend("tx_1", send(ETHER), 0), Allow)
    assert await ledger.spent(NATIVE.key, DAY, 40 * DAY) == ETHER  # open, however old
    await ledger.settle("tx_1", 21_000 * 10**9, 40 * DAY)
    assert isinstance(await ledger.spend("tx_2", send(1), 41 * DAY - 1), Deny)
    assert isinstance(await ledger.spend("tx_2", send(ETHER), 41 * DAY), Allow)


async def test_a_released_spend_frees_the_limit_and_keeps_its_fee(store: tuple[Database, Writer]) -> None:
    ledger = Ledger(store, policy())
    await ledger.spend("tx_1", send(ETHER), 0)
    reserved = await ledger.spent("gas:eip155:1", DAY, 1)
    assert reserved == 21_000 * 10**9
    await ledger.release("tx_1", 20_000 * 10**9, 5)
    assert await ledger.spent(NATIVE.key, DAY, 5) == 0
    assert await ledger.spent("usd", DAY, 5) == 0
    assert await ledger.spent("count", DAY, 5) == 0
    assert await ledger.spent("gas:eip155:1", DAY, 5) == 20_000 * 10**9
    assert await ledger.spent("gasUsd", DAY, 5) == 2500 * 20_000 * 10**9  # 1e-18 USD
    await ledger.release("tx_1", 1, 6)  # a second time changes nothing
    await ledger.settle("tx_1", 1, 6)
    assert await ledger.spent("gas:eip155:1", DAY, 6) == 20_000 * 10**9
    assert isinstance(await ledger.spend("tx_2", send(ETHER), 6), Allow)


async def test_a_window_is_exact_whatever_is_settled_in_whatever_order(store: tuple[Database, Writer]) -> None:
    rules = policy(limits=[{"maxCount": 1000, "windowMs": 3_600_000}])
    ledger = Ledger(store, rules)
    settled: dict[int, tuple[int, int]] = {}
    for n in range(60):
        units = (n * 7919) % 1000 + 1
        await ledger.spend(f"tx_{n}", send(units), n)
        settled[n] = (units, 100_000 * ((n * 31) % 20))
    latest = 0
    for n, (units, at) in settled.items():
        await ledger.settle(f"tx_{n}", None, at)
        latest = max(latest, at)  # a clock that was set back never shortens what counts
        settled[n] = (units, latest)
    for window, now in [
        (3_600_000, 3_600_000 + 500_000),
        (3_600_000, 5_500_000),
        (3_600_000, 5_499_999),
        (7_200_000, 9),
    ]:
        expected = sum(units for units, at in settled.values() if at > now - window)
        assert await ledger.spent(NATIVE.key, window, now) == expected
        assert await ledger.spent("count", window, now) == sum(at > now - window for _, at in settled.values())


async def test_the_approval_of_a_swap_is_judged_and_counts_with_the_swap(store: tuple[Database, Writer]) -> None:
    token = Asset(1, checksum("0x" + "c3" * 20))
    rules = policy(
        assets=[token.key],
        contracts=[ROUTER],
        methods=["0x12345678"],
        limits=[{"asset": token.key, "maxUnits": "100", "windowMs": DAY}],
        allowUnpricedAssets=True,
    )
    ledger = Ledger(store, rules)
    data = bytes.fromhex("095ea7b3") + bytes.fromhex(ROUTER[2:]).rjust(32, b"\0") + (60).to_bytes(32)
    assert token.token is not None
    approval = PolicyRequest(
        "transaction", 1, token.token, 0, data, (Movement("approve", token, 60, ROUTER, of_swap=True),)
    )
    swap = PolicyRequest("transaction", 1, ROUTER, 0, bytes.fromhex("12345678"), (Movement("send", token, 60, ROUTER),))
    assert isinstance(await ledger.spend("tx_1", approval, 0), Allow)
    assert await ledger.spent(token.key, DAY, 0) == 0
    assert isinstance(await ledger.spend("tx_2", swap, 0), Allow)
    assert await ledger.spent(token.key, DAY, 0) == 60
    assert await ledger.spent("count", DAY, 0) == 1
    assert isinstance(await ledger.spend("tx_3", approval, 0), Deny)  # its swap would no longer fit


async def test_ask_reserves_nothing_until_a_person_has_approved(store: tuple[Database, Writer]) -> None:
    ledger = Ledger(store, policy(approvalAbove={"usd": "100"}))
    verdict = await ledger.spend("tx_1", send(ETHER), 0)
    assert isinstance(verdict, Ask)
    assert [reason.statement for reason in verdict.reasons] == ["approvalAbove.usd"]
    assert await ledger.spent(NATIVE.key, DAY, 0) == 0
    assert isinstance(await ledger.spend("tx_1", send(ETHER), 0, is_approved=True), Allow)
    assert isinstance(await ledger.spend("tx_2", send(ETHER), 0, is_approved=True), Deny)


async def test_a_new_recipient_waits_from_the_first_request_or_from_the_policy(store: tuple[Database, Writer]) -> None:
    rules = policy(newRecipientHours=2, recipients=[BOB, ROUTER])
    ledger = Ledger(store, rules)
    hour = 3_600_000
    assert isinstance(await ledger.spend("tx_1", send(1), 1000), Deny)
    assert isinstance(await ledger.spend("tx_1", send(1), 1000 + 2 * hour - 1), Deny)
    assert isinstance(await ledger.spend("tx_1", send(1), 1000 + 2 * hour), Allow)
    await ledger.writer.write(lambda tx: budget.note_policy(tx, "wal_1", rules, 500))
    assert isinstance(await ledger.spend("tx_2", send(1, to=ROUTER), 500 + 2 * hour), Allow)


async def test_a_replacement_reserves_the_fee_that_it_may_pay(store: tuple[Database, Writer]) -> None:
    rules = policy(gas=[{"maxGasUsd": "1"}])
    ledger = Ledger(store, rules)
    await ledger.spend("tx_1", send(1), 0)

    async def bid(max_fee: int) -> Verdict:
        request = send(1, max_fee=max_fee)
        return await ledger.writer.write(
            lambda tx: ledger.spending.judge_replacement(tx, ledger.case(request, 0), "tx_1")
        )

    assert isinstance(await bid(15 * 10**9), Allow)
    assert await ledger.spent("gas:eip155:1", DAY, 0) == 21_000 * 15 * 10**9
    assert isinstance(await bid(20 * 10**9), Deny)  # 1.05 USD
    assert await ledger.spent("gas:eip155:1", DAY, 0) == 21_000 * 15 * 10**9


async def test_a_dust_test_has_caps_of_its_own_whatever_was_scaled(store: tuple[Database, Writer]) -> None:
    ledger = Ledger(store, policy())
    cent = 4 * 10**12  # of a coin worth 2500 USD
    assert isinstance(await ledger.spend("tx_0", send(5 * cent), 0, dust_run="dust:one"), Allow)
    verdict = await ledger.spend("tx_1", send(5 * cent + 1), 0, dust_run="dust:one")
    assert isinstance(verdict, Deny)
    assert [reason.statement for reason in verdict.reasons] == ["dust"]
    spends = [ledger.spend(f"tx_{n}", send(3 * cent), 0, dust_run="dust:one") for n in range(2, 50)]
    assert sum(isinstance(verdict, Allow) for verdict in await asyncio.gather(*spends)) == 31  # 5 + 31 × 3 <= 100
    await ledger.settle("tx_0", 1, 10)
    assert isinstance(await ledger.spend("tx_90", send(3 * cent), 11, dust_run="dust:one"), Deny)
    await ledger.release("tx_2", 1, 12)
    assert isinstance(await ledger.spend("tx_91", send(3 * cent), 13, dust_run="dust:one"), Allow)
    assert isinstance(await ledger.spend("tx_92", send(3 * cent), 13, dust_run="dust:two"), Allow)


async def test_the_approval_of_a_swap_is_held_against_the_cap_of_a_dust_test(store: tuple[Database, Writer]) -> None:
    """It counts nothing, since the swap counts, and could be taken all the same."""
    ledger = Ledger(store, policy(allowUnlimitedApprovals=True, contracts=[ROUTER], limits=[]))
    for units, outcome in ((5 * 4 * 10**12, Allow), (MAX_UINT256, Deny)):
        moved = (Movement("approve", NATIVE, units, ROUTER, of_swap=True),)
        request = replace(send(0), value_units=0, movements=moved)
        assert isinstance(await ledger.spend(f"tx_{units}", request, 0, dust_run="dust:one"), outcome)


async def test_a_simulation_sees_the_ledger_and_its_own_spends_and_reserves_nothing(
    store: tuple[Database, Writer],
) -> None:
    ledger = Ledger(store, policy())
    await ledger.spend("tx_1", send(ETHER // 2), 0)
    earlier: list[Earlier] = []
    outcomes = []
    for now_ms in (1, 1, 1, DAY + 2):
        verdict, counted = await ledger.database.read(
            lambda tx: ledger.spending.judge_simulated(
                tx,
                ledger.case(send(ETHER // 4), now_ms),  # noqa: B023 - read at once
                tuple(earlier),
            )
        )
        outcomes.append(verdict.outcome)
        earlier.append(Earlier(now_ms, counted))
    assert outcomes == ["allow", "allow", "deny", "allow"]  # a day later what it spent itself counts no more
    assert await ledger.spent(NATIVE.key, DAY, 1) == ETHER // 2


async def test_an_asset_that_nobody_prices_is_left_out_of_the_values() -> None:
    other = PolicyRequest("transaction", 5, BOB, 1, b"", (Movement("send", Asset(5), 1, BOB),))
    values = await Budget(Nobody()).values_of([send(1), other])
    assert values == PRICES


async def test_a_window_over_many_rows_is_read_as_quickly_as_one_over_few(store: tuple[Database, Writer]) -> None:
    database, writer = store
    columns = ("wallet_id", "subject_id", "measure", "units", "state", "opened_at", "settled_at", "position", "total")

    def fill(tx: Tx) -> None:
        statement = Statement(sa.insert(table).values({name: sa.bindparam(name) for name in columns}))
        tx.many(
            statement,
            [
                dict(
                    zip(
                        columns,
                        (wallet, f"tx_{wallet}_{n}", "usd", "3", "settled", n, n, n + 1, str(3 * (n + 1))),
                        strict=True,
                    )
                )
                for wallet, count in (("wal_1", 100_000), ("wal_2", 10))
                for n in range(count)
            ],
        )

    await writer.write(fill)

    def look(tx: Tx, wallet: str, now: int) -> int:
        return sum(reservations.spent_in_window(tx, wallet, "usd", 10_000, now + n) for n in range(100))

    async def seconds(wallet: str, now: int) -> float:
        start = clock.monotonic_s()
        await database.read(lambda tx: look(tx, wallet, now))
        return clock.monotonic_s() - start

    assert await database.read(lambda tx: reservations.spent_in_window(tx, "wal_1", "usd", 10_000, 99_999)) == 30_000
    found = [(await seconds("wal_1", 99_999), await seconds("wal_2", 9)) for _ in range(5)]
    many, few = (min(column) for column in zip(*found, strict=True))
    assert many < 10 * few, found


def test_a_simulated_fee_counts_as_it_was_paid() -> None:
    held = CountedUnits({"usd": 7, "count": 1, gas_measure(1): 900, GAS_USD: 10}, ("x",), True)
    units = {"usd": 7, "count": 1, gas_measure(1): 450, GAS_USD: 5}
    assert with_fee(held, 450) == CountedUnits(units, ("x",), True)
    assert with_fee(held, 451).units[GAS_USD] == 6  # rounded up
    signature = CountedUnits({"usd": 7, "count": 1})
    assert with_fee(signature, 450) == signature
