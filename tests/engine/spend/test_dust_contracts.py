"""A small part of `scripts/soak dust`: calls of lending, staking and prize pools, of Uniswap and of WETH9, as dust."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.soak_dust import prove_contract_calls
from testkit.chain.contracts import World


@pytest.mark.long
def test_calls_of_real_contracts_take_dust_by_balance(tmp_path: Path, world: World) -> None:
    found = prove_contract_calls(tmp_path, world, seed=7)
    assert found["failures"] == []
    cents = {name: round(100 * usd, 2) for name, usd in found["took"].items()}
    assert cents == {
        "a pool of Uniswap V2": 2.0,
        "a position of Uniswap V3": 2.0,
        "WETH9": 1.0,
        "a deposit into Aave V2": 1.0,
        "a stake in Aave's staked token": 1.0,
        "a deposit into PoolTogether V4": 1.0,
        "rewards for stakers of Uniswap V3": 1.0,
    }
