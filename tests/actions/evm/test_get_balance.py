from __future__ import annotations

from actions.evm.conftest import Scene
from dustrun.actions.evm.get_balance import Input, get_balance
from testkit.chain.anvil import ACCOUNTS


async def test_it_equals_the_witness(scene: Scene) -> None:
    scene.node.set_balance(ACCOUNTS[2], 1_500_000_000_000_000_001)
    assert await scene.do(get_balance, address=ACCOUNTS[2].lower()) == {
        "address": ACCOUNTS[2],
        "balance": str(scene.witness.native(ACCOUNTS[2])),
        "balanceFormatted": "1.500000000000000001",
        "symbol": "ETH",
        "decimals": 18,
    }


async def test_without_an_address_it_is_the_wallet(scene: Scene) -> None:
    result = await scene.do(get_balance)
    assert result["address"] == scene.wallet.address
    assert result["balance"] == str(scene.witness.native(scene.wallet.address))


def test_a_wallet_is_wanted_only_without_an_address() -> None:
    assert get_balance.wants_wallet(Input(chain_id=1))
    assert not get_balance.wants_wallet(Input(chain_id=1, address=ACCOUNTS[2]))
