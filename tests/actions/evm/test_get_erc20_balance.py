from __future__ import annotations

import pytest

from actions.evm.conftest import Scene
from dustrun.actions.evm.get_erc20_balance import get_erc20_balance
from dustrun.core.values.amounts import format_units
from dustrun.errors import Invalid
from testkit.chain.anvil import ACCOUNTS
from testkit.chain.contracts import TOKENS


@pytest.mark.parametrize("name", sorted(TOKENS))
async def test_it_equals_the_witness(scene: Scene, name: str) -> None:
    result = await scene.do(get_erc20_balance, token=scene[name], address=ACCOUNTS[2])
    units = scene.witness.balance(name, ACCOUNTS[2])
    assert (result["balance"], result["decimals"]) == (str(units), TOKENS[name])
    assert result["balanceFormatted"] == format_units(units, TOKENS[name])
    assert (result["token"], result["address"]) == (scene[name], ACCOUNTS[2])


async def test_without_an_address_it_is_the_wallet(scene: Scene) -> None:
    result = await scene.do(get_erc20_balance, token="usdc")
    assert result["address"] == scene.wallet.address


async def test_what_is_no_token_is_refused(scene: Scene) -> None:
    with pytest.raises(Invalid, match="no contract at"):
        await scene.do(get_erc20_balance, token=ACCOUNTS[3])
