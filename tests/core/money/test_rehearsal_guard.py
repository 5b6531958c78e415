"""The guard that binds live spends to a rehearsal."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from dustrun.core.money.intent import Intent, Movement
from dustrun.core.money.rehearsal_guard import data_hash, differences
from dustrun.core.values.amounts import Asset

WALLET = "wal_1"
SHOP, OTHER = "0x" + "b2" * 20, "0x" + "c3" * 20
TOKEN = Asset(1, "0x" + "d4" * 20)
INTENT = Intent("send", 1, SHOP, 100, b"\x01", (Movement("send", TOKEN, 1000, SHOP),), "Send", method="pay(uint256)")


def shown(intent: Intent, status: str = "simulated") -> dict[str, Any]:
    """As a simulation reports it."""
    return {**intent.public(), "dataHash": data_hash(intent.data), "status": status, "walletId": WALLET}


def _beyond(intent: Intent, tolerance: str = "0") -> list[str]:
    return differences(WALLET, [intent], [shown(INTENT)], Decimal(tolerance))


def test_the_same_or_less_passes() -> None:
    assert _beyond(INTENT) == []
    assert _beyond(replace(INTENT, value_units=1, movements=(Movement("send", TOKEN, 1, SHOP),))) == []


@pytest.mark.parametrize(
    "intent",
    [
        replace(INTENT, item="another"),
        replace(INTENT, chain_id=10),
        replace(INTENT, to=OTHER),
        replace(INTENT, to=None),
        replace(INTENT, method="take(uint256)"),
        replace(INTENT, value_units=101),
        replace(INTENT, movements=(Movement("send", TOKEN, 1001, SHOP),)),
        replace(INTENT, movements=(Movement("send", TOKEN, 1000, OTHER),)),
        replace(INTENT, movements=(Movement("send", Asset(1), 1000, SHOP),)),
        replace(INTENT, movements=(Movement("approve", TOKEN, 1000, SHOP),)),
    ],
)
def test_more_elsewhere_another_asset_or_no_match_is_told(intent: Intent) -> None:
    assert len(_beyond(intent)) == 1


def test_another_wallet_was_not_rehearsed() -> None:
    found = differences("wal_2", [INTENT], [shown(INTENT)], Decimal(100))
    assert found == ["send: from the wallet wal_2, rehearsed from wal_1"]


def test_tolerance_is_exact() -> None:
    assert _beyond(replace(INTENT, movements=(Movement("send", TOKEN, 1005, SHOP),)), "0.5") == []
    assert len(_beyond(replace(INTENT, movements=(Movement("send", TOKEN, 1006, SHOP),)), "0.5")) == 1


def test_two_movements_of_one_kind_are_summed() -> None:
    """Else a small one that was rehearsed last would hide a large one, or two large ones pass as one."""

    def paying(*amounts: int) -> Intent:
        return replace(INTENT, movements=tuple(Movement("send", TOKEN, units, SHOP) for units in amounts))

    rehearsed = [shown(paying(1, 10))]
    assert differences(WALLET, [paying(10, 1)], rehearsed, Decimal(0)) == []
    assert len(differences(WALLET, [paying(10, 10)], rehearsed, Decimal(0))) == 1


def test_calldata_that_a_person_wrote_is_compared_whole_whatever_goes_with_it() -> None:
    """The value is the same, and whom the contract pays may stand in the arguments."""
    call = replace(INTENT, as_written=True)
    assert differences(WALLET, [call], [shown(INTENT)], Decimal(0)) == []
    assert len(differences(WALLET, [replace(call, data=b"\x02")], [shown(INTENT)], Decimal(0))) == 1
    assert Intent.of(call.public()) == call


def test_a_call_that_declares_nothing_is_compared_whole() -> None:
    call = replace(INTENT, value_units=0, movements=())
    assert differences(WALLET, [call], [shown(call)], Decimal(0)) == []
    (told,) = differences(WALLET, [replace(call, data=b"\x02")], [shown(call)], Decimal(50))
    assert "calldata" in told


def test_what_failed_in_the_rehearsal_was_not_shown() -> None:
    assert len(differences(WALLET, [INTENT], [shown(INTENT, "refused")], Decimal(0))) == 1
